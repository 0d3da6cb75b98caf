use lindos_model::PciAddress;

/// All GPUs of the node at one moment. A field is `None` where a GPU does not have it, or the
/// driver does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub driver: String,
    pub gpus: Vec<Gpu>,
    /// Numbers of GPUs that the driver counts but gives no access to, and what it says of them.
    pub lost: Vec<(u32, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    pub index: u32,
    pub pci: Option<PciAddress>,
    pub uuid: String,
    /// Uncorrectable memory errors since the driver was loaded.
    pub uncorrected_errors: Option<u64>,
    pub remapped: Option<Remapped>,
    /// Bits that say why the clocks are not as high as they could be.
    pub throttle: Option<u64>,
    pub celsius: Option<u32>,
    /// From here on it slows down to save itself.
    pub slowdown_celsius: Option<u32>,
    pub milliwatts: Option<u32>,
    pub limit_milliwatts: Option<u32>,
    pub default_limit_milliwatts: Option<u32>,
    pub sm_megahertz: Option<u32>,
    pub sm_megahertz_max: Option<u32>,
    /// Of the last moments.
    pub busy_percent: Option<u32>,
    pub pcie_width: Option<u32>,
    pub pcie_width_max: Option<u32>,
    pub pcie_generation: Option<u32>,
    pub pcie_generation_max: Option<u32>,
    pub links: Vec<Link>,
    pub fabric: Option<Fabric>,
    /// Processes that compute on it.
    pub pids: Vec<u32>,
}

/// Rows of memory that were replaced by spare ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remapped {
    /// A row waits for the next reset.
    pub is_pending: bool,
    /// There was no spare row any more.
    pub has_failed: bool,
}

/// One NVLink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub number: u32,
    pub is_up: bool,
    /// How often it had to be recovered, and packets that were sent again.
    pub recoveries: Option<u64>,
    pub replays: Option<u64>,
}

/// How far the fabric manager has come with this GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fabric {
    /// It has not come to it yet.
    Waits,
    Works,
    Done,
    /// It is done, and reports this error.
    Failed(u32),
}
