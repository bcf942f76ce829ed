//! The BOSH release: what its tarball holds, what its templates come to on a VM, and that the real programs work with that.
//! Templates are rendered by Ruby's ERB, as a director does it.

mod examples;
mod job;
mod programs;
mod server;
mod tarball;
mod templates;
mod vm;
