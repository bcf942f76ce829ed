//! What the system tests share: a stack of the built programs on addresses of its own.
