//! The network of one pair: a bridge with a cable to each node. Every node knows the others' hardware addresses by heart, so
//! a cut is one wrong entry: packets to that neighbour go to an address that nobody has and are lost without a word, in that
//! direction only. That needs no packet filter and holds for connections that are open already.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::run;

/// A node of a pair's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    A,
    B,
    Witness,
}

impl Node {
    pub(crate) const ALL: [Node; 3] = [Node::A, Node::B, Node::Witness];

    fn letter(self) -> char {
        match self {
            Node::A => 'a',
            Node::B => 'b',
            Node::Witness => 'w',
        }
    }

    /// The last byte of its addresses; the bridge has 1.
    fn number(self) -> u8 {
        match self {
            Node::A => 2,
            Node::B => 3,
            Node::Witness => 4,
        }
    }
}

/// The network of one pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pair: u8,
}

/// An address that no node has.
const NOWHERE: &str = "02:00:00:00:00:ff";

impl Network {
    /// Lay the cables.
    pub(crate) fn build(pair: u8) -> Result<Network> {
        let network = Network { pair };
        let bridge = format!("br{pair}");
        run("ip", &["link", "add", &bridge, "address", &network.hardware(1), "type", "bridge"])?;
        run("ip", &["address", "add", &format!("10.99.{pair}.1/24"), "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        for node in Node::ALL {
            network.plug(node, &bridge)?;
        }
        for node in Node::ALL {
            let (address, hardware) = (network.address(node).to_string(), network.hardware(node.number()));
            run("ip", &["neighbour", "replace", &address, "lladdr", &hardware, "dev", &bridge, "nud", "permanent"])?;
            network.know(node, &format!("10.99.{pair}.1"), &network.hardware(1))?;
        }
        network.heal()?;
        Ok(network)
    }

    /// The name of a node's namespace.
    pub(crate) fn namespace(self, node: Node) -> String {
        format!("{}{}", self.pair, node.letter())
    }

    pub(crate) fn address(self, node: Node) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.pair, node.number())
    }

    /// From now on packets from the one to the other are lost.
    pub(crate) fn cut(self, from: Node, to: Node) -> Result<()> {
        self.know(from, &self.address(to).to_string(), NOWHERE)
    }

    /// Mend every cut.
    pub(crate) fn heal(self) -> Result<()> {
        for from in Node::ALL {
            for to in Node::ALL.into_iter().filter(|to| *to != from) {
                self.know(from, &self.address(to).to_string(), &self.hardware(to.number()))?;
            }
        }
        Ok(())
    }

    fn plug(self, node: Node, bridge: &str) -> Result<()> {
        let (namespace, hardware) = (self.namespace(node), self.hardware(node.number()));
        let cable = format!("cable{namespace}");
        run("ip", &["netns", "add", &namespace])?;
        run(
            "ip",
            &["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "address", &hardware, "netns", &namespace],
        )?;
        run("ip", &["link", "set", &cable, "master", bridge, "up"])?;
        let address = format!("{}/24", self.address(node));
        run("ip", &["-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", &namespace, "link", "set", "eth0", "up"])?;
        run("ip", &["-n", &namespace, "link", "set", "lo", "up"])
    }

    fn know(self, node: Node, address: &str, hardware: &str) -> Result<()> {
        let namespace = self.namespace(node);
        let entry = ["neighbour", "replace", address, "lladdr", hardware, "dev", "eth0", "nud", "permanent"];
        run("ip", &[&["-n", &namespace], &entry[..]].concat())
    }

    fn hardware(self, number: u8) -> String {
        format!("02:00:00:00:{:02x}:{number:02x}", self.pair)
    }
}
