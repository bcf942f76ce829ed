//! The contract of `mysql-broker`: the words of the Open Service Broker API, version 2.17. The broker itself is the
//! binary of this package; nobody can import it.

pub mod osb;
