//! The director API as its clients see it: the running program, with shell programs as the jobs of its VMs.

#![cfg(test)]

mod answer;
mod deployments;
mod fixture;
mod hang_ups;
mod instances;
mod world;
