//! The same service over IPv6, beside the one over IPv4.

use anyhow::Result;
use lb_lab::VIP6;
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, Service, expect_cycle, names, routed_backends};

use crate::{WEBS, web, web6};

in_both_modes!(both_families_have_their_own_order);

fn both_families_have_their_own_order(mode: Mode) -> Result<()> {
    let service6 = Service::tcp("web6", VIP6, 80, routed_backends(VIP6, 3, 8080));
    let farm = Farm::start(mode, 3, |config| {
        config.service(Farm::web(3)).service(service6)
    })?;
    expect_cycle(&names(&farm.lab, web6(), 30)?, &WEBS)?;
    expect_cycle(&names(&farm.lab, web(), 4)?, &WEBS)?;
    expect_cycle(&names(&farm.lab, web6(), 6)?, &WEBS)?;
    let status = farm.agent.status()?;
    status
        .service("web6")?
        .expect("connections", &[12, 12, 12])?;
    status.service("web")?.expect("connections", &[2, 1, 1])?;
    status.expect_no_drops()
}
