//! The words on the command line. They are those of the `bosh` CLI.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

/// Which director, as whom, and which of its deployments.
#[derive(Args)]
pub(crate) struct Connection {
    /// The director's URL
    #[arg(short, long, global = true, env = "BOSH_ENVIRONMENT", value_name = "URL")]
    pub(super) environment: Option<String>,
    /// The user; the password is in BOSH_CLIENT_SECRET or in a file
    #[arg(long, global = true, env = "BOSH_CLIENT", value_name = "NAME")]
    pub(super) client: Option<String>,
    /// A file with the user's password
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) client_secret_file: Option<PathBuf>,
    /// The director's certificate authority, a path or the PEM text
    #[arg(long, global = true, env = "BOSH_CA_CERT", value_name = "PATH")]
    pub(super) ca_cert: Option<String>,
    /// The deployment
    #[arg(short, long, global = true, env = "BOSH_DEPLOYMENT", value_name = "NAME")]
    pub(super) deployment: Option<String>,
}

impl Connection {
    pub(super) fn deployment(&self) -> anyhow::Result<&str> {
        self.deployment.as_deref().context("name the deployment with -d NAME or BOSH_DEPLOYMENT")
    }
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the director
    Env,
    /// List deployments
    Deployments,
    /// List instances and how they are
    Instances {
        /// Show the processes too
        #[arg(long)]
        ps: bool,
        /// Show the VM, the disk and more
        #[arg(long)]
        details: bool,
    },
    /// List VMs
    Vms,
    /// Make a deployment as its manifest says
    Deploy(DeployOptions),
    /// Print a deployment's manifest
    Manifest,
    /// Delete a deployment; its persistent disks become orphans
    DeleteDeployment {
        /// Go on where something fails
        #[arg(long)]
        force: bool,
    },
    /// List the errands of a deployment
    Errands,
    /// Run an errand
    RunErrand {
        name: String,
        /// Only there; may be given more than once
        #[arg(long = "instance", value_name = "GROUP[/ID|INDEX]")]
        instances: Vec<Slug>,
    },
    /// Stop instances
    Stop(InstanceOptions),
    /// Start instances
    Start(InstanceOptions),
    /// Stop and start instances
    Restart(InstanceOptions),
    /// Make the VMs of instances anew, with the same disks
    Recreate(InstanceOptions),
    /// Look for lost VMs and VMs that do not answer, and mend them
    #[command(visible_alias = "cck")]
    CloudCheck(CloudCheckOptions),
    /// Keep the director's hands off an instance
    Ignore {
        #[arg(value_name = "GROUP/ID|INDEX")]
        slug: Slug,
    },
    /// Let the director look after an instance again
    Unignore {
        #[arg(value_name = "GROUP/ID|INDEX")]
        slug: Slug,
    },
    /// Delete a VM
    DeleteVm { cid: String },
    /// List the tasks that run, or that ran
    Tasks {
        /// The last ones, also those that ended
        #[arg(long, value_name = "COUNT", num_args = 0..=1, default_missing_value = "30", require_equals = true)]
        recent: Option<u32>,
    },
    /// Follow a task to its end and show what it did
    Task {
        id: u64,
        #[command(flatten)]
        output: TaskOutput,
    },
    /// Cancel a task
    CancelTask { id: u64 },
    /// Set the cloud config
    UpdateCloudConfig { file: PathBuf },
    /// Print the cloud config
    CloudConfig,
    /// Bring lost VMs back by themselves, or not
    UpdateResurrection { switch: Switch },
    /// List what was done, by whom, the newest first
    Events,
    /// List the locks and the tasks that hold them
    Locks,
    /// List the variables that a deployment uses
    Variables,
    /// List disks that no instance uses
    Disks {
        /// Those that a deleted deployment left behind
        #[arg(long, short, required = true)]
        orphaned: bool,
    },
    /// Take the disk of an instance without a VM; its next VM has a new one
    OrphanDisk { cid: String },
    /// Give an orphaned disk to an instance without a VM
    AttachDisk {
        #[arg(value_name = "GROUP/ID")]
        slug: Slug,
        cid: String,
    },
    /// Delete an orphaned disk
    DeleteDisk { cid: String },
    /// Print the stable client address of a deployment
    LinkAddress,
    /// Delete what nobody uses
    CleanUp {
        /// Also orphaned disks
        #[arg(long)]
        all: bool,
    },
}

#[derive(Args)]
pub(crate) struct DeployOptions {
    pub(super) manifest: PathBuf,
    /// A variable of the manifest
    #[arg(short, long = "var", value_name = "NAME=VALUE")]
    pub(super) var: Vec<String>,
    /// A variable of the manifest whose value is the text of a file
    #[arg(long, value_name = "NAME=PATH")]
    pub(super) var_file: Vec<String>,
    /// Make all VMs anew
    #[arg(long)]
    pub(super) recreate: bool,
    /// Make VMs anew that do not answer
    #[arg(long)]
    pub(super) fix: bool,
}

#[derive(Args)]
pub(crate) struct InstanceOptions {
    /// All instances where it is not given
    #[arg(value_name = "GROUP[/ID|INDEX]")]
    pub(super) slug: Option<Slug>,
    /// Stop: delete the VM too, keep the disk
    #[arg(long)]
    pub(super) hard: bool,
    /// Touch this one instance and nothing else of the deployment
    #[arg(long)]
    pub(super) no_converge: bool,
    /// Also where the VM does not answer
    #[arg(long)]
    pub(super) fix: bool,
    /// Without the jobs' drain scripts
    #[arg(long)]
    pub(super) skip_drain: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct CloudCheckOptions {
    /// Only say what is found
    #[arg(long, short)]
    pub(super) report: bool,
    /// Mend each as the director chooses
    #[arg(long, short)]
    pub(super) auto: bool,
    /// Mend all in this way, as recreate_vm
    #[arg(long, value_name = "NAME")]
    pub(super) resolution: Option<String>,
}

/// What happens to an instance.
#[derive(Clone, Copy)]
pub(super) enum InstanceCommand {
    Stop,
    Start,
    Restart,
    Recreate,
}

#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct TaskOutput {
    /// The debug log
    #[arg(long)]
    pub(super) debug: bool,
    /// What it returned
    #[arg(long)]
    pub(super) result: bool,
    /// The events as they were written
    #[arg(long)]
    pub(super) event: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// `GROUP`, `GROUP/ID` or `GROUP/INDEX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slug {
    pub(super) group: String,
    pub(super) id: Option<String>,
}

impl std::str::FromStr for Slug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (group, id) = match text.split_once('/') {
            Some((group, id)) => (group, Some(id)),
            None => (text, None),
        };
        if group.is_empty() || id.is_some_and(|id| id.is_empty() || id.contains('/')) {
            return Err("an instance is written GROUP/ID or GROUP/INDEX, all of a group GROUP".to_owned());
        }
        Ok(Self { group: group.to_owned(), id: id.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_group_and_perhaps_an_instance() {
        let slug = |group: &str, id: Option<&str>| Slug { group: group.into(), id: id.map(str::to_owned) };
        assert_eq!("mysql/0".parse(), Ok(slug("mysql", Some("0"))));
        assert_eq!("mysql".parse(), Ok(slug("mysql", None)));
        for wrong in ["", "/", "mysql/", "/0", "a/b/c"] {
            assert!(wrong.parse::<Slug>().is_err(), "{wrong}");
        }
    }
}
