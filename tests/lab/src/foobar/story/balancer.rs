//! The active balancer dies.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::app::DOWNLOAD_BYTES;
use super::super::{Audience, Foobar, NAME, VIP, patience};
use super::pages;

/// How long the VIP may be nowhere.
const AT_MOST: Duration = Duration::from_secs(1);

pub(super) fn dies_and_returns(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    let dying = foobar.active()?;
    let name = foobar.balancers[dying].name.clone();
    let download = Download::start(foobar)?;
    let cut = Instant::now();
    foobar.balancers[dying].cut(&foobar.lab)?;
    let gap = until_it_answers(foobar, cut)?;
    (audience.seen)(&format!(
        "{name} was cut off; new connections after {} ms",
        gap.as_millis()
    ));
    ensure!(
        gap <= AT_MOST,
        "the VIP took {} ms to move",
        gap.as_millis()
    );
    pages::in_turn(foobar, audience)?;
    (audience.seen)(&download.finish(cut)?);
    foobar.monitor.await_firing(&["LbAgentGone"])?;

    foobar.balancers[dying].return_again(&foobar.lab)?;
    for backend in ["app1", "app2"] {
        foobar.balancers[dying].await_health(backend, "up")?;
    }
    patience::await_until(patience::LONG, "one balancer has the VIP", || {
        let active = foobar.active()?;
        ensure!(active != dying, "{name} took the VIP back");
        Ok(())
    })?;
    pages::in_turn(foobar, audience)?;
    foobar.monitor.await_quiet()
}

/// A download that takes a few seconds.
struct Download {
    curl: Child,
    file: PathBuf,
}

impl Download {
    /// Begins it, and waits until a part of it is there.
    fn start(foobar: &Foobar) -> Result<Self> {
        let file = foobar.lab.folder().join("download");
        let _ = fs::remove_file(&file);
        let url = format!("https://{NAME}/download.bin");
        let words = ["--limit-rate", "25M", "--max-time", "60"];
        let mut curl = foobar.client.curl(&foobar.lab, &words)?;
        let curl = curl
            .arg("--output")
            .arg(&file)
            .arg(url)
            .stderr(Stdio::piped());
        let download = Self {
            curl: curl.spawn()?,
            file,
        };
        patience::await_until(patience::LONG, "the download has begun", || {
            let came = fs::metadata(&download.file)?.len();
            ensure!(came > 20 << 20, "{came} bytes");
            Ok(())
        })?;
        Ok(download)
    }

    /// Waits for its end, and says what came when.
    fn finish(self, cut: Instant) -> Result<String> {
        let output = self.curl.wait_with_output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the download broke: {error}");
        let came = fs::metadata(&self.file)?.len();
        ensure!(came == DOWNLOAD_BYTES as u64, "{came} bytes came");
        fs::remove_file(&self.file)?;
        Ok(format!(
            "the download of {} MiB went on, and was whole {:.1} s after the cut",
            came >> 20,
            cut.elapsed().as_secs_f64()
        ))
    }
}

/// Connects again and again, and gives the time from the cut to the first connection.
fn until_it_answers(foobar: &Foobar, cut: Instant) -> Result<Duration> {
    let address = SocketAddr::new(VIP.into(), 443);
    let gap = foobar.lab.within("client", || {
        while cut.elapsed() < patience::LONG {
            if TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_ok() {
                return Some(cut.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    })?;
    gap.ok_or_else(|| anyhow::anyhow!("the VIP did not come back"))
}
