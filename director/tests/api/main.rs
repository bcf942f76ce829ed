//! The director API as its clients see it: the running program, with shell programs as the jobs of its VMs.

#![cfg(test)]

mod answer;
mod cut;
mod deployments;
mod fixture;
mod instances;
mod world;
