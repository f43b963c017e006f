//! The order among crates.

use toml::Table;

/// What a crate may depend on, of this project's crates.
pub struct Layer {
    /// The package.
    pub package: &'static str,
    /// The packages that it may name.
    pub below: &'static [&'static str],
}

/// The order: `format <- replica <- engine -> ring`, above them the NBD server, the program, and
/// those that test and measure.
pub const LAYERS: &[Layer] = &[
    Layer {
        package: "format",
        below: &[],
    },
    Layer {
        package: "ring",
        below: &[],
    },
    Layer {
        package: "replica",
        below: &["format"],
    },
    Layer {
        package: "engine",
        below: &["format", "replica", "ring"],
    },
    Layer {
        package: "nbd-server",
        below: &["format", "replica", "engine"],
    },
    Layer {
        package: "twinblk",
        below: &["format", "replica", "engine", "nbd-server"],
    },
    Layer {
        package: "sim",
        below: &["format", "replica", "model"],
    },
    Layer {
        package: "model",
        below: &[],
    },
    Layer {
        package: "e2e",
        below: &["format"],
    },
    Layer {
        package: "tidy",
        below: &[],
    },
    Layer {
        package: "bench",
        below: &["format", "replica", "ring", "engine", "nbd-server", "e2e"],
    },
    Layer {
        package: "fuzz",
        below: &["format", "nbd-server", "engine", "replica"],
    },
    Layer {
        package: "fuzz-targets",
        below: &["fuzz"],
    },
];

/// A manifest's package name; `None` for the workspace's own.
pub fn package(manifest: &Table) -> Option<&str> {
    manifest.get("package")?.get("name")?.as_str()
}

/// All that the manifest names as dependencies, of every kind.
pub fn dependencies(manifest: &Table) -> Vec<&str> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|kind| manifest.get(kind)?.as_table())
        .flat_map(|table| table.keys().map(String::as_str))
        .collect()
}

/// The project's crates that the manifest names against the order.
pub fn against_order(manifest: &Table) -> Result<Vec<String>, String> {
    let name = package(manifest).ok_or("no package name")?;
    let layer = LAYERS
        .iter()
        .find(|layer| layer.package == name)
        .ok_or_else(|| format!("{name} has no place in the order of crates"))?;
    let ours = |dependency: &str| LAYERS.iter().any(|layer| layer.package == dependency);
    Ok(dependencies(manifest)
        .into_iter()
        .filter(|dependency| ours(dependency) && !layer.below.contains(dependency))
        .map(|dependency| format!("{name} must not depend on {dependency}"))
        .collect())
}
