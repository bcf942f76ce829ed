//! The director API as its clients see it: the running program, with shell programs as the jobs of its VMs.

#![cfg(test)]

mod answer;
mod deployments;
mod disk;
mod fixture;
mod full_disk;
mod hang_ups;
mod instances;
mod own_faults;
mod pre_stop;
mod whole;
mod world;
