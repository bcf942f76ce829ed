//! PURE: which instances a group has: those that stay, those that are new, those that go. An instance keeps its AZ, index
//! and address as long as the manifest admits them.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use crate::cloud_config::{Network, Subnet};
use crate::error::{Code, Error, Result};
use crate::manifest::Group;
use crate::model::{DesiredState, Instance};

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// In the order of their indexes.
    pub(crate) instances: Vec<Instance>,
    pub(crate) obsolete: Vec<Instance>,
}

/// Place the instances of a group. `taken` are the addresses of everybody; the new ones are added. `new_id` gives the
/// ids of new instances.
pub(crate) fn place(
    group: &Group,
    existing: Vec<Instance>,
    network: &Network,
    taken: &mut HashSet<Ipv4Addr>,
    mut new_id: impl FnMut() -> String,
) -> Result<Placement> {
    spare_ignored(group, &existing)?;
    let (mut instances, mut obsolete): (Vec<_>, Vec<_>) =
        existing.into_iter().partition(|instance| group.azs.contains(&instance.az));
    instances.sort_by_key(|instance| instance.index);
    while instances.len() > group.instances as usize {
        obsolete.push(instances.remove(superfluous(&group.azs, &instances)));
    }
    for instance in instances.iter_mut().filter(|instance| !instance.is_ignored) {
        if !network.subnets.iter().any(|subnet| subnet.serves(&instance.az) && subnet.contains(instance.address)) {
            instance.address = free_address(group, network, &instance.az, taken)?;
        }
    }
    while instances.len() < group.instances as usize {
        let (index, az) = (lowest_free_index(&instances), emptiest_az(&group.azs, &instances));
        let address = free_address(group, network, &az, taken)?;
        instances.push(new_instance(new_id(), &group.name, index, az, address));
        instances.sort_by_key(|instance| instance.index);
    }
    elect_bootstrap(&mut instances);
    Ok(Placement { instances, obsolete })
}

/// What somebody looks after by hand stays, or nothing is changed at all.
fn spare_ignored(group: &Group, existing: &[Instance]) -> Result<()> {
    let (name, wanted) = (&group.name, group.instances);
    let refused = |message: String| Err(Error::new(Code::IgnoredInstancesModification, message));
    let ignored: Vec<&Instance> = existing.iter().filter(|instance| instance.is_ignored).collect();
    if ignored.len() > wanted as usize {
        let count = ignored.len();
        return refused(format!(
            "Instance Group '{name}' has {count} ignored instance(s). {wanted} instance(s) of that instance group were \
             requested. Deleting ignored instances is not allowed."
        ));
    }
    match ignored.iter().find(|instance| !group.azs.contains(&instance.az)) {
        None => Ok(()),
        Some(instance) => refused(format!(
            "Instance Group '{name}' no longer contains AZ '{}' where ignored instance(s) exist.",
            instance.az
        )),
    }
}

/// The last instance of the fullest AZ; one that is ignored is passed over.
fn superfluous(azs: &[String], instances: &[Instance]) -> usize {
    let free = |az: &str| instances.iter().any(|instance| instance.az == az && !instance.is_ignored);
    let fullest = azs.iter().filter(|az| free(az)).map(|az| count(az, instances)).max().unwrap_or(0);
    let goes = |instance: &Instance| !instance.is_ignored && count(&instance.az, instances) == fullest;
    instances.iter().rposition(goes).unwrap_or(0)
}

/// The first AZ with the fewest instances: round robin in an empty group.
fn emptiest_az(azs: &[String], instances: &[Instance]) -> String {
    azs.iter().min_by_key(|az| count(az, instances)).cloned().unwrap_or_default()
}

fn count(az: &str, instances: &[Instance]) -> usize {
    instances.iter().filter(|instance| instance.az == az).count()
}

fn lowest_free_index(instances: &[Instance]) -> u32 {
    (0..).find(|index| instances.iter().all(|instance| instance.index != *index)).unwrap_or(0)
}

fn free_address(group: &Group, network: &Network, az: &str, taken: &mut HashSet<Ipv4Addr>) -> Result<Ipv4Addr> {
    let mut subnets = network.subnets.iter().filter(|subnet: &&Subnet| subnet.serves(az));
    let address = subnets.find_map(|subnet| subnet.pick(taken)).ok_or_else(|| {
        let message = format!(
            "Failed to reserve IP for '{}' in AZ '{az}' for manual network '{}': no more available",
            group.name, network.name
        );
        Error::new(Code::NoFreeAddress, message)
    })?;
    taken.insert(address);
    Ok(address)
}

fn new_instance(id: String, group: &str, index: u32, az: String, address: Ipv4Addr) -> Instance {
    let state = DesiredState::Started;
    let group = group.to_owned();
    let (bootstrap, disk, vm, applied, is_ignored) = (false, None, None, None, false);
    Instance { id, group, index, az, bootstrap, address, state, disk, vm, applied, is_ignored }
}

/// Exactly one instance bootstraps the group; it stays the same one until it goes (instance_planner.rb).
fn elect_bootstrap(instances: &mut [Instance]) {
    let elected = instances.iter().position(|instance| instance.bootstrap).unwrap_or(0);
    for (at, instance) in instances.iter_mut().enumerate() {
        instance.bootstrap = at == elected;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud_config::Size;
    use crate::manifest::update::{Amount, Update, Watch};

    fn group(instances: u32, azs: &[&str]) -> Group {
        let watch: Watch = "1-2".parse().unwrap();
        let one = Amount::Number(1);
        let update = Update { canaries: one, max_in_flight: one, canary_watch: watch, update_watch: watch };
        let azs = azs.iter().map(|az| (*az).to_owned()).collect();
        let (name, vm_type, network) = ("g".to_owned(), "small".to_owned(), "n".to_owned());
        let (size, disk_mb, jobs) = (Size::default(), None, Vec::new());
        Group { name, instances, azs, vm_type, size, disk_mb, network, jobs, update }
    }

    fn placed(group: &Group, existing: Vec<Instance>) -> Result<Placement> {
        let network: Network = serde_yaml::from_str(
            "{name: n, subnets: [{az: z1, range: 127.81.1.0/24, gateway: 127.81.1.1}, {az: z2, range: 127.81.2.0/30}]}",
        )
        .unwrap();
        let mut taken = existing.iter().map(|instance| instance.address).collect();
        let mut next = existing.len();
        let new_id = || {
            next += 1;
            format!("id{next}")
        };
        place(group, existing, &network, &mut taken, new_id)
    }

    fn shape(instances: &[Instance]) -> Vec<String> {
        let mark = |instance: &Instance| if instance.bootstrap { "*" } else { "" };
        instances.iter().map(|i| format!("{}{} {} {} {}", i.id, mark(i), i.index, i.az, i.address)).collect()
    }

    #[test]
    fn instances_are_placed_round_robin_and_stay_where_they_are() {
        let both = ["z1", "z2"];
        let two = || placed(&group(2, &both), Vec::new()).unwrap().instances;
        assert_eq!(shape(&two()), ["id1* 0 z1 127.81.1.2", "id2 1 z2 127.81.2.1"]);

        let again = placed(&group(2, &both), two()).unwrap();
        let grown = placed(&group(3, &both), two()).unwrap();
        let shrunk = placed(&group(1, &both), two()).unwrap();
        let moved = placed(&group(2, &["z2"]), two()).unwrap();

        assert_eq!(again, Placement { instances: two(), obsolete: Vec::new() });
        assert_eq!(shape(&grown.instances)[2], "id3 2 z1 127.81.1.3");
        assert_eq!((shape(&shrunk.instances).len(), shrunk.obsolete[0].id.as_str()), (1, "id2"));
        assert_eq!(shape(&moved.instances), ["id3* 0 z2 127.81.2.2", "id2 1 z2 127.81.2.1"]);
        assert_eq!(moved.obsolete[0].id, "id1");
    }

    #[test]
    fn an_ignored_instance_stays_where_it_is_or_nothing_changes() {
        let both = ["z1", "z2"];
        let mut two = placed(&group(2, &both), Vec::new()).unwrap().instances;
        two[1].is_ignored = true;
        two[1].address = "127.99.1.2".parse().unwrap();

        let shrunk = placed(&group(1, &both), two.clone()).unwrap();
        let refusals = [group(0, &both), group(2, &["z1"])].map(|group| placed(&group, two.clone()).unwrap_err());

        assert_eq!(
            shape(&shrunk.instances),
            ["id2* 1 z2 127.99.1.2"],
            "also with an address that is not the network's"
        );
        assert_eq!(shrunk.obsolete[0].id, "id1");
        assert!(refusals.iter().all(|error| error.code == Code::IgnoredInstancesModification), "{refusals:?}");
        assert!(refusals[0].description.contains("has 1 ignored instance(s). 0 instance(s)"), "{}", refusals[0]);
        assert!(refusals[1].description.contains("no longer contains AZ 'z2'"), "{}", refusals[1]);
    }

    #[test]
    fn a_full_subnet_is_refused() {
        let error = placed(&group(3, &["z2"]), Vec::new()).unwrap_err();

        assert_eq!(error.code, Code::NoFreeAddress);
        assert!(error.description.contains("in AZ 'z2' for manual network 'n'"), "{error}");
    }

    #[test]
    fn an_instance_outside_of_its_changed_subnet_gets_a_new_address() {
        let mut instances = placed(&group(1, &["z1"]), Vec::new()).unwrap().instances;
        instances[0].address = "127.99.1.2".parse().unwrap();

        let placement = placed(&group(1, &["z1"]), instances).unwrap();

        assert_eq!(shape(&placement.instances), ["id1* 0 z1 127.81.1.2"]);
    }
}
