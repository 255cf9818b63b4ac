//! 8 MB each way through NAT: the same bytes arrive, and no checksum was ever wrong.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Lab, Routed, VIP4, VIP6, get};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Check, Farm, Mode, Server, Service, checksum_errors, routed_backends, upload,
};

use crate::web;

const SIZE: usize = 8 << 20;
const UPLOAD_PORT: u16 = 8081;
const NAMESPACES: [&str; 3] = ["client", "lb", "web1"];
const PATIENCE: Duration = Duration::from_secs(10);

in_both_modes!(eight_megabytes_each_way);

/// Bytes without a pattern that a segment more or less, or two swapped, would leave as it was.
pub(crate) fn content() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(SIZE);
    while bytes.len() < SIZE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn errors(lab: &Lab) -> Result<u64> {
    NAMESPACES
        .iter()
        .map(|namespace| checksum_errors(lab, namespace))
        .sum()
}

fn eight_megabytes_each_way(mode: Mode) -> Result<()> {
    let vips: [IpAddr; 2] = [VIP4.into(), VIP6.into()];
    let farm = Farm::start(mode, 1, |mut config| {
        for (family, vip) in ["4", "6"].into_iter().zip(vips) {
            let down = routed_backends(vip, 1, 8080);
            let up = routed_backends(vip, 1, UPLOAD_PORT);
            config = config
                .service(Service::tcp(&format!("down{family}"), vip, 80, down))
                .service(
                    Service::tcp(&format!("up{family}"), vip, UPLOAD_PORT, up).check(Check::None),
                );
        }
        config
    })?;
    let listen = Routed::server_addresses(1).map(|address| SocketAddr::new(address, UPLOAD_PORT));
    let _server = Server::digest(&farm.lab, "web1", &listen)?;
    let content = content();
    fs::write(farm.servers[0].root().join("big"), &content)?;
    for vip in vips {
        let down = SocketAddr::new(vip, 80);
        let answer = farm
            .lab
            .within("client", || get(down, "/big", PATIENCE))??;
        ensure!(answer.status == 200, "HTTP {}", answer.status);
        ensure!(
            answer.body.len() == SIZE,
            "{} bytes came down",
            answer.body.len()
        );
        ensure!(answer.body == content, "other bytes came down");
        let up = SocketAddr::new(vip, UPLOAD_PORT);
        farm.lab.within("client", || upload(up, &content))??;
    }
    let errors = errors(&farm.lab)?;
    ensure!(errors == 0, "{errors} packets with a wrong checksum");
    let status = farm.agent.status()?;
    status.expect_no_drops()?;
    for service in ["up4", "up6"] {
        // Heads included, and nothing lost on the way.
        let bytes = status.service(service)?.number("bytes")?;
        ensure!(bytes > SIZE as u64, "{service} counts {bytes} bytes");
    }
    Ok(())
}

/// The counters that the scenario above trusts do count: with checksums left to a network card
/// that is not there, packets arrive with wrong ones. (In generic mode the kernel still knows
/// that they are to be completed.)
#[test]
fn wrong_checksums_would_be_seen() -> Result<()> {
    let farm = Farm::start(Mode::Native, 1, |config| config.service(Farm::web(1)))?;
    ensure!(
        errors(&farm.lab)? == 0,
        "wrong checksums before anything was done"
    );
    farm.lab
        .run("client", "ethtool", &["-K", "c0", "tx", "on"])?;
    let answer = farm
        .lab
        .within("client", || get(web(), "/", Duration::from_millis(500)))?;
    ensure!(
        answer.is_err(),
        "a packet with half a checksum was answered"
    );
    ensure!(errors(&farm.lab)? > 0, "a wrong checksum was not counted");
    Ok(())
}
