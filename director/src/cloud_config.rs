//! PURE: the cloud config: which AZs, VM types, disk types and networks there are, and which addresses a network gives.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::error::{Code, Error, Result};

#[derive(Debug, Default, Deserialize)]
pub(crate) struct CloudConfig {
    #[serde(default)]
    pub(crate) azs: Vec<Az>,
    #[serde(default)]
    pub(crate) vm_types: Vec<VmType>,
    #[serde(default)]
    pub(crate) disk_types: Vec<DiskType>,
    #[serde(default)]
    pub(crate) networks: Vec<Network>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Az {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct VmType {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) cloud_properties: Size,
}

/// What a VM type says of its size; the process CPI passes it on to the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Size {
    pub(crate) cpu: Option<u32>,
    /// MB.
    pub(crate) ram: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DiskType {
    pub(crate) name: String,
    /// MB.
    pub(crate) disk_size: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    #[serde(rename = "type", default)]
    pub(crate) kind: NetworkKind,
    #[serde(default)]
    pub(crate) subnets: Vec<Subnet>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkKind {
    /// The director picks the addresses of the instances.
    #[default]
    Manual,
    /// Stable client addresses are drawn from here.
    Vip,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subnet {
    pub(crate) az: Option<String>,
    #[serde(default)]
    pub(crate) azs: Vec<String>,
    pub(crate) range: Range,
    pub(crate) gateway: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) reserved: Vec<Span>,
    /// For `static_ips`, which this director does not give.
    #[serde(default, rename = "static")]
    pub(crate) fixed: Vec<Span>,
}

/// `127.81.1.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Range {
    first: u32,
    last: u32,
}

/// One address, `first-last` or a range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(Range);

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let wrong = || format!("'{text}' is not a range of addresses; expected one like 127.81.1.0/24");
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address = u32::from(address.parse::<Ipv4Addr>().map_err(|_| wrong())?);
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32).ok_or_else(wrong)?;
        let host = u32::MAX.checked_shr(bits).unwrap_or(0);
        Ok(Self { first: address & !host, last: address | host })
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        if text.contains('/') {
            return Range::try_from(text).map(Self);
        }
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let parse = |part: &str| part.trim().parse::<Ipv4Addr>().map(u32::from);
        match (parse(first), parse(last)) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self(Range { first, last })),
            _ => Err(format!("'{text}' is neither an address nor FIRST-LAST nor a range like 127.81.1.0/24")),
        }
    }
}

impl Range {
    fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }
}

impl Subnet {
    pub(crate) fn serves(&self, az: &str) -> bool {
        self.az.as_deref() == Some(az) || self.azs.iter().any(|name| name == az)
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.range.contains(address)
    }

    /// The lowest address that nobody has; never the network, the broadcast or the gateway address.
    pub(crate) fn pick(&self, taken: &HashSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let Range { first, last } = self.range;
        let excluded = |address: Ipv4Addr| self.reserved.iter().chain(&self.fixed).any(|span| span.0.contains(address));
        (first.saturating_add(1)..last)
            .map(Ipv4Addr::from)
            .find(|address| Some(*address) != self.gateway && !excluded(*address) && !taken.contains(address))
    }
}

impl CloudConfig {
    pub(crate) fn vm_type(&self, name: &str) -> Option<&VmType> {
        self.vm_types.iter().find(|vm_type| vm_type.name == name)
    }

    pub(crate) fn disk_type(&self, name: &str) -> Option<&DiskType> {
        self.disk_types.iter().find(|disk_type| disk_type.name == name)
    }

    pub(crate) fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name && network.kind == NetworkKind::Manual)
    }

    pub(crate) fn vip(&self) -> Option<&Network> {
        self.networks.iter().find(|network| network.kind == NetworkKind::Vip)
    }
}

/// Read a cloud config. The process CPI has only loopback addresses to give, so every subnet must be one.
pub(crate) fn parse(text: &str) -> Result<CloudConfig> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|cause| {
        Error::new(Code::ConfigInvalidYaml, format!("Incorrect YAML structure of the config: {cause}"))
    })?;
    if !value.is_mapping() {
        return Err(Error::new(Code::ConfigInvalid, "The cloud config must be a hash with azs, vm_types and networks"));
    }
    let config: CloudConfig = serde_yaml::from_value(value)
        .map_err(|cause| Error::new(Code::ConfigInvalid, format!("The cloud config is not usable: {cause}")))?;
    for network in &config.networks {
        network.subnets.iter().try_for_each(|subnet| check(&config, network, subnet))?;
    }
    Ok(config)
}

fn check(config: &CloudConfig, network: &Network, subnet: &Subnet) -> Result<()> {
    let loopback = |address: u32| Ipv4Addr::from(address).is_loopback();
    if !loopback(subnet.range.first) || !loopback(subnet.range.last) {
        let message = format!("Network '{}': a subnet must lie within 127.0.0.0/8 on one machine", network.name);
        return Err(Error::new(Code::InvalidNetworkRange, message));
    }
    let unknown = subnet.az.iter().chain(&subnet.azs).find(|az| !config.azs.iter().any(|known| known.name == **az));
    let message = |az: &String| format!("Network '{}' refers to the AZ '{az}', which is not among `azs`", network.name);
    unknown.map_or(Ok(()), |az| Err(Error::new(Code::NetworkMissingAz, message(az))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn the_lowest_free_address_is_picked() {
        let table: [(&str, &[&str], Option<&str>); 6] = [
            ("{range: 127.81.1.0/24, gateway: 127.81.1.1}", &[], Some("127.81.1.2")),
            ("{range: 127.81.1.0/24, gateway: 127.81.1.1}", &["127.81.1.2", "127.81.1.4"], Some("127.81.1.3")),
            ("{range: 127.81.1.0/24, reserved: [127.81.1.1-127.81.1.9]}", &[], Some("127.81.1.10")),
            ("{range: 127.81.1.0/24, reserved: [127.81.1.1], static: [127.81.1.2/31]}", &[], Some("127.81.1.4")),
            ("{range: 127.81.1.0/30, gateway: 127.81.1.1}", &["127.81.1.2"], None),
            ("{range: 127.81.1.7/24}", &[], Some("127.81.1.1")),
        ];
        for (text, taken, expected) in table {
            let taken = taken.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(subnet(text).pick(&taken), expected.map(|address| address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn bad_cloud_configs_name_what_is_wrong() {
        let table = [
            ("a: [", 440_011, "Incorrect YAML"),
            ("just text", 440_010, "must be a hash"),
            ("networks: [{name: n, subnets: [{range: 10.0.0.0/24}]}]", 160_010, "within 127.0.0.0/8"),
            ("networks: [{name: n, subnets: [{range: 127.0.0.0}]}]", 440_010, "'127.0.0.0' is not a range"),
            ("networks: [{name: n, subnets: [{az: z9, range: 127.1.0.0/24}]}]", 150_006, "'z9', which is not among"),
        ];
        for (text, code, expected) in table {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code.number(), code, "{text}: {error}");
            assert!(error.description.contains(expected), "{text}: {error}");
        }
    }
}
