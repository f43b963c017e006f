//! One replica of one volume: the state machine's front door.

use crate::event::{Effects, Event, Nanos};
use crate::status::Status;
use format::bitmap_page::BitmapPage;
use format::superblock::Superblock;
use format::types::{BootId, Slot};

/// How a node behaves; from the configuration file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// A peer that has not answered for this long is gone.
    pub peer_timeout: Nanos,
    /// How often a peer is pinged.
    pub ping_interval: Nanos,
    /// A local I/O unanswered for this long has failed.
    pub io_timeout: Nanos,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            peer_timeout: 2_000_000_000,
            ping_interval: 250_000_000,
            io_timeout: 30_000_000_000,
        }
    }
}

/// What the shell has found on disk.
#[derive(Debug)]
pub struct Opening {
    /// The newer valid copy.
    pub superblock: Superblock,
    /// The valid bitmap pages.
    pub pages: Vec<BitmapPage>,
    /// Pages that were damaged: all their blocks count as marked.
    pub damaged_pages: Vec<(Slot, u32)>,
    /// The extents in the activity log; `None` if it was damaged: the whole volume counts as hot.
    pub hot_extents: Option<Vec<u32>>,
    /// The machine's boot.
    pub boot: BootId,
    /// 128 bits from the system's random source.
    pub seed: u128,
    /// The clock.
    pub now: Nanos,
}

/// One replica of one volume.
#[derive(Debug)]
pub struct Node {
    // the state machine
}

impl Node {
    /// Opens a replica. The effects make its opening durable; until they have ended it serves nobody.
    pub fn open(opening: Opening, settings: Settings, effects: &mut Effects) -> Node {
        let _ = (opening, settings, effects);
        todo!()
    }

    /// Takes one event and says what is to be done.
    pub fn step(&mut self, now: Nanos, event: Event, effects: &mut Effects) {
        let _ = (now, event, effects);
        todo!()
    }

    /// When the node next wants an [`Event::Tick`].
    pub fn deadline(&self) -> Option<Nanos> {
        todo!()
    }

    /// Why the node does not serve clients, or that it does.
    pub fn serving(&self) -> Result<(), String> {
        todo!()
    }

    /// What it tells of itself.
    pub fn status(&self) -> Status {
        todo!()
    }
}
