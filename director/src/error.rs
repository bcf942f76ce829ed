//! What the director says when it refuses or fails: BOSH's error codes with a sentence, the same in an HTTP answer and in
//! the last event of a task.

use axum::http::StatusCode;

/// A refusal or a failure, in BOSH's words.
#[derive(Debug, thiserror::Error)]
#[error("{description}")]
pub(crate) struct Error {
    pub(crate) code: Code,
    pub(crate) description: String,
}

/// BOSH's error codes, as many as this director uses (src/bosh-director/lib/bosh/director/errors.rb).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    Generic = 100,
    TaskNotFound = 10_000,
    TaskCancelled = 10_001,
    ReleaseNotFound = 30_005,
    ReleaseVersionNotFound = 30_006,
    ValidationMissingField = 40_001,
    ValidationInvalid = 40_002,
    DeploymentNotFound = 70_000,
    InstanceNotFound = 70_001,
    InstanceInvalidIndex = 70_002,
    InstanceVmMissing = 70_004,
    ErrandNotFound = 70_009,
    ContextIdInvalid = 70_010,
    ResourceNotFound = 100_002,
    NoFreeAddress = 130_010,
    UnknownRelease = 140_002,
    UnknownVmType = 140_004,
    InvalidJobState = 140_007,
    UnknownDiskType = 140_012,
    JobInstanceIgnored = 140_021,
    UnknownNetwork = 150_001,
    NetworkMissingAz = 150_006,
    InvalidNetworkRange = 160_010,
    InvalidWatchTime = 180_001,
    UnknownJob = 190_012,
    IgnoredInstancesModification = 190_020,
    IgnoredInstancesDeletion = 190_021,
    MissingParameter = 190_024,
    UnknownConfigs = 190_025,
    DiskMissing = 390_002,
    NotRunningAfterUpdate = 400_007,
    InvalidResolutionFormat = 410_003,
    InvalidYaml = 440_001,
    ConfigInvalid = 440_010,
    ConfigInvalidYaml = 440_011,
    ConfigNotFound = 440_012,
    AgentTimeout = 450_002,
    ErrandOnStoppedInstance = 510_000,
    AttachDiskUnknownInstance = 520_001,
    AttachDiskInvalidInstanceState = 520_003,
    VariableInvalid = 540_005,
    Unauthorized = 600_000,
    LinkNotFound = 810_000,
    LinkInvalidPayload = 810_001,
    LinkProviderNotFound = 810_002,
    LinkMissingId = 810_006,
    LinkProviderNotShared = 810_009,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(code: Code, description: impl Into<String>) -> Self {
        Self { code, description: description.into() }
    }

    pub(crate) fn no_deployment(name: &str) -> Self {
        Self::new(Code::DeploymentNotFound, format!("Deployment '{name}' doesn't exist"))
    }

    pub(crate) fn no_task(id: &str) -> Self {
        Self::new(Code::TaskNotFound, format!("Task {id} not found"))
    }

    /// Somebody asks for one instance that is looked after by hand. BOSH has two codes for it.
    pub(crate) fn ignored(code: Code, slug: &str) -> Self {
        let message = format!(
            "You are trying to change the state of the ignored instance '{slug}'. This operation is not allowed. \
             You need to unignore it first."
        );
        Self::new(code, message)
    }

    /// `what` holds instances that are looked after by hand.
    pub(crate) fn ignored_deletion(what: &str) -> Self {
        let message =
            format!("You are trying to delete {what}, which contains ignored instance(s). Operation not allowed.");
        Self::new(Code::IgnoredInstancesDeletion, message)
    }

    pub(crate) fn cancelled(task: u64) -> Self {
        Self::new(Code::TaskCancelled, format!("Task {task} cancelled"))
    }
}

/// What has no code of its own in BOSH: the whole chain of causes, because those who use a director are operators.
impl From<anyhow::Error> for Error {
    fn from(cause: anyhow::Error) -> Self {
        Self::new(Code::Generic, format!("{cause:#}"))
    }
}

impl Code {
    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// A code with which a task may end, by its number.
    pub(crate) fn of_task(number: u32) -> Option<Self> {
        let codes = [
            Self::TaskCancelled,
            Self::InstanceNotFound,
            Self::ErrandNotFound,
            Self::NoFreeAddress,
            Self::UnknownVmType,
            Self::UnknownDiskType,
            Self::NetworkMissingAz,
            Self::IgnoredInstancesModification,
            Self::IgnoredInstancesDeletion,
            Self::NotRunningAfterUpdate,
            Self::AgentTimeout,
            Self::ErrandOnStoppedInstance,
            Self::VariableInvalid,
        ];
        codes.into_iter().find(|code| code.number() == number)
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TaskNotFound
            | Self::ReleaseNotFound
            | Self::ReleaseVersionNotFound
            | Self::DeploymentNotFound
            | Self::InstanceNotFound
            | Self::ErrandNotFound
            | Self::ResourceNotFound
            | Self::ConfigNotFound
            | Self::LinkNotFound => StatusCode::NOT_FOUND,
            Self::Generic => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::LinkProviderNotShared => StatusCode::FORBIDDEN,
            Self::TaskCancelled
            | Self::ValidationMissingField
            | Self::ValidationInvalid
            | Self::InstanceInvalidIndex
            | Self::InstanceVmMissing
            | Self::ContextIdInvalid
            | Self::NoFreeAddress
            | Self::UnknownRelease
            | Self::UnknownVmType
            | Self::InvalidJobState
            | Self::UnknownDiskType
            | Self::JobInstanceIgnored
            | Self::UnknownNetwork
            | Self::NetworkMissingAz
            | Self::InvalidNetworkRange
            | Self::InvalidWatchTime
            | Self::UnknownJob
            | Self::IgnoredInstancesModification
            | Self::IgnoredInstancesDeletion
            | Self::MissingParameter
            | Self::UnknownConfigs
            | Self::DiskMissing
            | Self::NotRunningAfterUpdate
            | Self::InvalidResolutionFormat
            | Self::InvalidYaml
            | Self::ConfigInvalid
            | Self::ConfigInvalidYaml
            | Self::AgentTimeout
            | Self::ErrandOnStoppedInstance
            | Self::AttachDiskUnknownInstance
            | Self::AttachDiskInvalidInstanceState
            | Self::VariableInvalid
            | Self::LinkInvalidPayload
            | Self::LinkProviderNotFound
            | Self::LinkMissingId => StatusCode::BAD_REQUEST,
        }
    }
}
