//! The contract of `mysql-broker`: the words of the Open Service Broker API, version 2.17.
