//! A volume in a container without the plugin: a device that was attached by hand, and Docker's own driver `local`. The
//! commands are those of the page.

use e2e::docker::Plugin;
use e2e::engine::IMAGE;
use e2e::machines::{COUNT, Machines};
use e2e::program::{Output, shipped, twinblk};
use e2e::{PATIENCE, wait_for};

/// A node's own words in the place of the page's, which has its names and defaults.
fn own_words(machines: &Machines, node: usize, text: &str) -> String {
    let folder = machines.cluster().nodes[node].folder().display();
    text.replace("/dev/twinblk/pgdata", &format!("{folder}/devices/app"))
        .replace("pgdata", "app")
        .replace("20G", "64M")
}

/// The blocks of the page's section, those that begin with these words.
fn blocks(first: &str) -> Vec<String> {
    let page = std::fs::read_to_string(shipped("docs/DOCKER.md")).expect("the page");
    let (_, section) = page
        .split_once("\n## Without the plugin\n")
        .expect("it has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```").skip(1).step_by(2);
    let text = |block: &str| block.split_once('\n').map(|(_, text)| text.to_owned());
    let blocks = blocks.filter_map(text);
    blocks.filter(|text| text.starts_with(first)).collect()
}

/// The commands of a block, on a machine.
fn run(machines: &Machines, node: usize, block: &str) -> Vec<Output> {
    let folder = machines.cluster().nodes[node].folder();
    let (admin, config) = (folder.join("admin.sock"), folder.join("twinblk.toml"));
    let (admin, config) = (admin.display().to_string(), config.display().to_string());
    let program = twinblk().display().to_string();
    let mut outputs = Vec::new();
    for line in own_words(machines, node, block).lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "twinblk" {
            words[0] = &program;
            words.insert(1, "--admin");
            words.insert(2, &admin);
        }
        if words.contains(&"attach") || words.contains(&"detach") {
            words.extend(["--config", &config]);
        }
        outputs.push(machines.engines[node].run(words[0], &words[1..]));
    }
    outputs
}

fn succeed(machines: &Machines, node: usize, block: &str) {
    for output in run(machines, node, block) {
        output.success();
    }
}

/// Writes a compose file of the container that counts, with the volume as the page has it, and runs it on alpha.
fn compose(machines: &Machines) {
    let volumes = blocks("volumes:").pop().expect("the page has one");
    let volumes = own_words(machines, 0, &volumes);
    let script = COUNT.replace('$', "$$");
    let service = format!(
        "services:\n  counter:\n    image: {IMAGE}\n    container_name: counter\n    network_mode: none\n    \
         command: [/bin/sh, -c, '{script}']\n    volumes: ['app:/data']\n"
    );
    let file = machines.cluster().folder().join("plain.yaml");
    std::fs::write(&file, service + &volumes).expect("a file");
    let file = file.display().to_string();
    let words = ["--project-name", "plain", "--file", &file, "up", "--detach"];
    machines.engines[0].run("docker-compose", &words).success();
}

/// There is no plugin, and Docker waits for none.
fn end(plugin: &mut Plugin) {
    plugin.kill();
    std::fs::remove_file(plugin.socket()).expect("it was there");
}

fn assert_counted(written: &[u64]) {
    assert_eq!(written, (1..=written.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_device_becomes_a_local_volume() {
    let Some(mut machines) = Machines::up() else {
        return;
    };
    machines.plugins.iter_mut().for_each(end);
    let [make, define] = ["twinblk volume create", "docker volume create"].map(|first| {
        let found = blocks(first);
        assert_eq!(found.len(), 1, "{first}: {found:?}");
        found.concat()
    });
    succeed(&machines, 0, &make);
    succeed(&machines, 0, &define);
    succeed(&machines, 1, &define);
    machines.run(0).success();
    machines.wait_said(0, 20);
    let seen = machines.engines[0].docker(&["exec", "counter", "ls", "/data"]);
    assert_eq!(
        seen.success(),
        "log\nlost+found\n",
        "nothing is copied from the image"
    );
    machines.protected();

    // On the other machine there is no device, and there can be none.
    let refused = machines.run(1);
    assert!(refused.stderr.contains("no such file"), "{refused:?}");
    machines.engines[1].docker(&["rm", "counter"]);
    let attach = "twinblk volume attach pgdata";
    let refused = &run(&machines, 1, attach)[0];
    assert_ne!(refused.code, Some(0), "{refused:?}");

    let said = machines.wait_said(0, 50);
    machines.die(0);
    let beta = &machines.cluster().nodes[1];
    beta.wait_status("app", "promoted", |status| status["role"] == "Primary");
    succeed(&machines, 1, attach);
    machines.run(1).success();
    machines.wait_said(1, said + 1);
    assert_counted(&machines.written(1));

    // Docker tries on alpha, and there is no device.
    machines.boot(0);
    end(&mut machines.plugins[0]);
    let log = || machines.engines[0].docker_log();
    wait_for("Docker to try", PATIENCE, || {
        log().contains("failed to mount local volume").then_some(())
    });
    machines.cluster().nodes[1].wait_state("app", "Protected");

    // Back in good order, and by Compose.
    machines.engines[0].docker(&["rm", "counter"]).success();
    let stop = ["stop", "-t", "1", "counter"];
    machines.engines[1].docker(&stop).success();
    let said = machines.said(1).expect("it has counted");
    succeed(&machines, 1, "twinblk volume detach pgdata");
    succeed(&machines, 1, "twinblk volume swap pgdata");
    succeed(&machines, 0, attach);
    compose(&machines);
    machines.wait_said(0, said + 1);
    assert_counted(&machines.written(0));
}
