//! How a world begins.

use super::{Happening, Phase, World};
use crate::arena::Arena;
use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::host::{Ailment, Down, Host};
use crate::lineage::Lineages;
use crate::meta::Meta;
use crate::network::Network;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::check::Checks;
use crate::world::clients::Clients;
use crate::world::growth::Growth;
use crate::world::membership::{Membership, blank};
use crate::world::operators::Operators;
use crate::world::planted::Saboteur;
use crate::world::register::Register;
use crate::world::script::{Cue, PRELUDE};
use crate::world::states::States;
use format::superblock::{Replica, Superblock};
use format::types::{
    BootId, Configuration, DiskState, Generation, Name, NodeId, NodeSet, REPLICAS_MAX, Slot,
    VolumeId,
};
use replica::event::Effects;
use replica::limits::DRIFT_DIVISOR;
use std::collections::{BTreeMap, VecDeque};

/// What a clock gains or loses in a second at most, in nanoseconds: half of what two may come apart by.
const DRIFT_MAX: u64 = 1_000_000_000 / DRIFT_DIVISOR / 2;

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, saboteur: Saboteur, trace: Trace) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        World::planned(plan, None, rng, saboteur, trace)
    }

    /// The world of a script, in which the first host is the primary; the seed decides speeds and what clients do.
    pub fn scripted(
        plan: Plan,
        cues: Vec<Cue>,
        seed: u64,
        saboteur: Saboteur,
        trace: Trace,
    ) -> World {
        let mut world = World::planned(plan, Some(0), Rng::new(seed), saboteur, trace);
        world.script = cues.into();
        world.script.push_front(Cue::Wait(PRELUDE));
        world
    }

    fn planned(
        plan: Plan,
        first: Option<usize>,
        mut rng: Rng,
        saboteur: Saboteur,
        trace: Trace,
    ) -> World {
        let all: Vec<Slot> = Slot::all().take(plan.nodes).collect();
        let slots: Vec<Slot> = all[..plan.copies].to_vec();
        let generation = Generation(rng.wide().to_le_bytes());
        let drawn = rng.index(slots.len());
        let first = Configuration {
            epoch: 1,
            generation,
            primary: Some(slots[first.unwrap_or(drawn)]),
            in_sync: slots.iter().copied().collect(),
        };
        let arbitrated = plan.settings.failover.lease().is_some();
        let volume = VolumeId(rng.wide().to_le_bytes());
        let identities = replicas(&all, &mut rng);
        let mut replicas = identities.clone();
        for slot in &all[plan.copies..] {
            replicas[slot.index()] = None;
        }
        let mut hosts: Vec<Host> = Vec::new();
        for slot in &all {
            let mut superblock = new_superblock(*slot, first, volume, &replicas, plan.size_bytes);
            if !slots.contains(slot) {
                superblock.replicas[slot.index()] = identities[slot.index()].clone();
                blank(&mut superblock);
            }
            hosts.push(host(superblock, &mut rng));
        }
        for host in hosts.iter_mut().skip(1) {
            host.drift += saboteur.haste();
        }
        World {
            now: 0,
            phase: Phase::Turmoil,
            queue: BTreeMap::new(),
            tie: 0,
            hosts,
            network: Network::new(plan.nodes, plan.network_delay),
            clients: Clients::new(&plan, rng.fork()),
            operators: Operators::default(),
            growth: Growth::default(),
            membership: Membership::new(first.in_sync, identities),
            lineages: Lineages::new(first),
            checks: Checks::default(),
            coverage: Coverage::default(),
            trace,
            register: Register {
                held: arbitrated.then_some(first),
                ..Register::default()
            },
            script: VecDeque::new(),
            saboteur,
            states: States::default(),
            chance: rng.fork(),
            fate: rng.fork(),
            effects: Effects::new(),
            failure: None,
            plan,
        }
    }

    /// Everything that goes on by itself from then on is put into the queue.
    pub(super) fn begin(&mut self) {
        for host in 0..self.hosts.len() {
            self.schedule(0, Happening::Start { host });
        }
        for client in 0..self.plan.clients {
            self.schedule(0, Happening::Client { client });
        }
        if !self.script.is_empty() {
            return self.schedule(0, Happening::Cue);
        }
        let first_fault = self.fate.interval(self.plan.fault_interval);
        self.schedule(first_fault, Happening::Fault);
        self.schedule(0, Happening::Operators);
        self.plan_blackout();
    }
}

fn replicas(slots: &[Slot], rng: &mut Rng) -> [Option<Replica>; REPLICAS_MAX] {
    let mut replicas: [Option<Replica>; REPLICAS_MAX] = Default::default();
    for slot in slots {
        let name = ["alpha", "beta", "gamma", "delta"][slot.index()];
        replicas[slot.index()] = Some(Replica {
            node: NodeId(rng.wide().to_le_bytes()),
            name: Name::new(name).expect("a name"),
        });
    }
    replicas
}

fn new_superblock(
    slot: Slot,
    configuration: Configuration,
    volume: VolumeId,
    replicas: &[Option<Replica>; REPLICAS_MAX],
    size_bytes: u64,
) -> Superblock {
    Superblock {
        sequence: 1,
        volume,
        name: Name::new("volume").expect("a name"),
        size_bytes,
        slot,
        replicas: replicas.clone(),
        configuration,
        data_generation: configuration.generation,
        history: Vec::new(),
        history_complete: true,
        proposal: None,
        pending_admission: None,
        disk_state: DiskState::UpToDate,
        clean: true,
        suspect: false,
        crashed_primary: false,
        discarded: false,
        forced: false,
        arbitrated: false,
        boot: BootId::NONE,
        log_instance: 1,
        mark_floor: [0; REPLICAS_MAX],
        marks_valid: configuration.in_sync.union(NodeSet::EMPTY),
    }
}

fn host(superblock: Superblock, rng: &mut Rng) -> Host {
    Host {
        slot: superblock.slot,
        node: None,
        down: Some(Down::Stopped),
        life: 0,
        disk: Disk::default(),
        meta: Meta::new(superblock),
        arena: Arena::default(),
        boot: BootId(rng.wide().to_le_bytes()),
        clock_ahead: rng.below(1 << 40),
        operations: BTreeMap::new(),
        tick: None,
        turn_scheduled: false,
        dies_after: None,
        ailment: Ailment::default(),
        intact: true,
        dark_at: 0,
        dark_since: 0,
        promised_at: 0,
        superseded_by: None,
        forced: false,
        stopped_until: 0,
        waiting: VecDeque::new(),
        drift: rng.below(2 * DRIFT_MAX + 1).cast_signed() - DRIFT_MAX.cast_signed(),
    }
}
