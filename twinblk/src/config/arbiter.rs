//! The sections `[arbiter]` and `[failover]`.

use super::arbiter_settings::{ArbiterSettings, EtcdSettings, PREFIX};
use super::bounded;
use super::document::Complaint;
use super::values::{Address, one_or_more};
use replica::Lease;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;

/// Below, a busy machine's scheduling would look like a dead peer; above, clients would rather see
/// an error.
const LEASE_MS: Range<u64> = 200..60_001;
const LEASE_MS_DEFAULT: u64 = 2000;
/// Two leases' worth is slow enough for anybody, ten is a mistake.
const GRACE_LEASES_MAX: u64 = 10;
/// Longer than this is for ever: write "freeze".
const FREEZE_MS: Range<u64> = 0..86_400_001;
const FREEZE_MS_DEFAULT: u64 = 30_000;
/// Below, a flush of a busy disk would look slow; above, `io_timeout` comes first.
const SLOW_PEER_MS: Range<u64> = 50..30_001;
const RESTART_HOLD_MS: Range<u64> = 0..3_600_001;
const RESTART_HOLD_MS_DEFAULT: u64 = 30_000;
const SUSPECT_MS: Range<u64> = 0..86_400_001;
const SUSPECT_MS_DEFAULT: u64 = 60_000;
const NANOS_PER_MS: u64 = 1_000_000;

/// What a node does with an arbiter's help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failover {
    /// When it takes a volume over.
    pub(crate) mode: Mode,
    /// For how long members bind themselves.
    pub(crate) times: Lease,
    /// How long requests are held without a quorum; `None`: until there is one.
    pub(crate) freeze_max: Option<Duration>,
    /// A member that has had a write for longer is dropped; `None`: none is for that.
    pub(crate) slow_peer: Option<Duration>,
    /// How long a primary that has stopped as planned is waited for.
    pub(crate) restart_hold: Duration,
    /// When what was flushed is served although a power cut may have taken acknowledged writes; `None`: never.
    pub(crate) suspect_promotes_after: Option<Duration>,
}

/// When a node takes a volume over whose primary is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// When it is opened here
    #[default]
    OnDemand,
    /// By itself
    Automatic,
}

impl Mode {
    /// What a replica is told.
    pub(crate) fn with(self, times: Lease) -> replica::Failover {
        match self {
            Mode::OnDemand => replica::Failover::OnDemand(times),
            Mode::Automatic => replica::Failover::Automatic(times),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArbiterSection {
    kind: Spanned<Kind>,
    #[serde(default, alias = "addresses", deserialize_with = "one_or_more")]
    address: Vec<Address>,
    #[serde(default, deserialize_with = "one_or_more")]
    endpoints: Vec<String>,
    prefix: Option<String>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Witness,
    Etcd,
}

impl ArbiterSection {
    pub(super) fn check(self) -> Result<ArbiterSettings, Complaint> {
        let at = self.kind.span();
        let complain = |message: String| Complaint {
            at: at.clone(),
            message,
        };
        let for_etcd = self.prefix.is_some()
            || self.ca_file.is_some()
            || self.cert_file.is_some()
            || self.key_file.is_some()
            || self.user.is_some()
            || self.password_file.is_some()
            || !self.endpoints.is_empty();
        let settings = match self.kind.get_ref() {
            Kind::Witness if for_etcd => {
                return Err(complain(
                    "a witness has an address and nothing else: remove the rest, or write kind = \"etcd\""
                        .to_owned(),
                ));
            }
            Kind::Etcd if !self.address.is_empty() => {
                return Err(complain(
                    "etcd has endpoints and no address: write endpoints = [\"http://HOST:2379\"]"
                        .to_owned(),
                ));
            }
            Kind::Witness => ArbiterSettings::Witness {
                addresses: self.address.iter().map(ToString::to_string).collect(),
            },
            Kind::Etcd => ArbiterSettings::Etcd(EtcdSettings {
                endpoints: self.endpoints,
                prefix: self.prefix.unwrap_or_else(|| PREFIX.to_owned()),
                ca_file: self.ca_file,
                cert_file: self.cert_file,
                key_file: self.key_file,
                user: self.user,
                password_file: self.password_file,
            }),
        };
        settings
            .invalid()
            .map_or(Ok(settings), |message| Err(complain(message)))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FailoverSection {
    mode: Option<Spanned<Mode>>,
    lease_ms: Option<Spanned<u64>>,
    grace_ms: Option<Spanned<u64>>,
    on_no_quorum: Option<Spanned<NoQuorum>>,
    freeze_max_ms: Option<Spanned<u64>>,
    slow_peer_ms: Option<Spanned<u64>>,
    restart_hold_ms: Option<Spanned<u64>>,
    suspect_promotes_after_ms: Option<Spanned<Patience>>,
}

/// How long somebody is waited for.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Patience {
    Ms(u64),
    Word(Never),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Never {
    Never,
}

/// So many milliseconds, or for ever.
fn patience(
    key: &str,
    value: Option<&Spanned<Patience>>,
    default: u64,
    allowed: Range<u64>,
) -> Result<Option<Duration>, Complaint> {
    let written = match value.map(Spanned::get_ref) {
        Some(Patience::Word(Never::Never)) => return Ok(None),
        Some(Patience::Ms(ms)) => value.map(|at| Spanned::new(at.span(), *ms)),
        None => None,
    };
    let ms = bounded(key, written, default, allowed)?;
    Ok(Some(Duration::from_millis(ms)))
}

/// What becomes of requests for which there is no quorum.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NoQuorum {
    Freeze,
    Error,
}

impl FailoverSection {
    /// The lease, and what is done with an arbiter's help.
    pub(super) fn check(self, has_arbiter: bool) -> Result<(Duration, Failover), Complaint> {
        if let Some(mode) = self.mode.as_ref().filter(|_| !has_arbiter) {
            return Err(Complaint {
                at: mode.span(),
                message: "without an arbiter failover is by hand: add an [arbiter], or remove mode"
                    .to_owned(),
            });
        }
        let lease_ms = bounded("lease_ms", self.lease_ms, LEASE_MS_DEFAULT, LEASE_MS)?;
        let lease = Duration::from_millis(lease_ms);
        let grace_at = self.grace_ms.as_ref().map_or(0..0, Spanned::span);
        let grace_ms = bounded(
            "grace_ms",
            self.grace_ms,
            lease_ms * 3 / 2,
            grace_ms_min(lease_ms)..lease_ms * GRACE_LEASES_MAX + 1,
        )?;
        let times = Lease::new(lease_ms * NANOS_PER_MS, grace_ms * NANOS_PER_MS);
        let times = times.ok_or_else(|| Complaint {
            at: grace_at,
            message: format!("grace_ms cannot be {grace_ms}: write more"),
        })?;
        let on_no_quorum = self.on_no_quorum.map(Spanned::into_inner);
        let limited = on_no_quorum == Some(NoQuorum::Error);
        if let Some(freeze) = self.freeze_max_ms.as_ref().filter(|_| !limited) {
            return Err(Complaint {
                at: freeze.span(),
                message: "freeze_max_ms is for on_no_quorum = \"error\": add that, or remove it"
                    .to_owned(),
            });
        }
        let freeze_ms = bounded(
            "freeze_max_ms",
            self.freeze_max_ms,
            FREEZE_MS_DEFAULT,
            FREEZE_MS,
        )?;
        let slow_peer = match self.slow_peer_ms {
            Some(written) => {
                let ms = bounded("slow_peer_ms", Some(written), 0, SLOW_PEER_MS)?;
                Some(Duration::from_millis(ms))
            }
            None => None,
        };
        let restart_hold_ms = bounded(
            "restart_hold_ms",
            self.restart_hold_ms,
            RESTART_HOLD_MS_DEFAULT,
            RESTART_HOLD_MS,
        )?;
        let failover = Failover {
            mode: self.mode.map(Spanned::into_inner).unwrap_or_default(),
            times,
            freeze_max: limited.then_some(Duration::from_millis(freeze_ms)),
            slow_peer,
            restart_hold: Duration::from_millis(restart_hold_ms),
            suspect_promotes_after: patience(
                "suspect_promotes_after_ms",
                self.suspect_promotes_after_ms.as_ref(),
                SUSPECT_MS_DEFAULT,
                SUSPECT_MS,
            )?,
        };
        Ok((lease, failover))
    }
}

/// The least grace for a lease, in whole milliseconds.
fn grace_ms_min(lease_ms: u64) -> u64 {
    Lease::grace_min(lease_ms * NANOS_PER_MS).div_ceil(NANOS_PER_MS)
}
