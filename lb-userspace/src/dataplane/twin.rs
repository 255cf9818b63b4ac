//! A second instance of the program on the same tables: for frames in several buffers, or watched,
//! for `lb why` and `lb capture`.

use std::path::PathBuf;

use aya::{
    EbpfLoader,
    maps::PerCpuArray,
    programs::{TestRun as _, TestRunOptions},
};
use lb_common::{
    abi::{self, Settings, features, maps},
    capture,
    trace::{self, Trace},
};

use super::{
    error::{Error, chain},
    kernel_log,
    load::{OBJECT, Program, load_failed},
    plain::Plain,
};

/// All that loading a twin takes, so that nobody has to wait for it.
#[derive(Clone, Debug)]
pub struct TwinSource {
    pub(super) settings: Settings,
    /// The pinned maps, in the order of [`maps::ALL`].
    pub(super) pins: Vec<PathBuf>,
}

impl TwinSource {
    /// Loads it with one feature more.
    pub(super) fn load(&self, feature: u32, ring_bytes: u32) -> Result<Program, Error> {
        let features = self.settings.features | feature;
        let settings = Plain(Settings {
            features,
            ..self.settings
        });
        let mut loader = EbpfLoader::new();
        loader
            .override_global(abi::SETTINGS_GLOBAL, &settings, true)
            .map_max_entries(capture::RING_MAP, ring_bytes);
        for (name, file) in maps::ALL.into_iter().zip(&self.pins) {
            loader.map_pin_path(name, file);
        }
        let ebpf = loader.load(OBJECT).map_err(load_failed)?;
        Program::verified(ebpf, abi::steer_program(features))
    }

    /// Loads the program for frames in several buffers, which forwards its log like the other one.
    pub(super) fn load_for_frags(&self) -> Result<Program, Error> {
        let mut program = self.load(features::MULTI_BUFFER, NO_RING)?;
        kernel_log::forward(&mut program.ebpf);
        Ok(program)
    }

    /// What the program does, as bits of [`lb_common::abi::features`].
    #[must_use]
    pub const fn features(&self) -> u32 {
        self.settings.features
    }
}

/// Says what would become of frames: it runs on the live tables and changes nothing.
#[derive(Debug)]
pub struct DryRunner {
    program: Program,
    /// Runs that each CPU had traced before.
    runs: Vec<u32>,
}

/// What would become of a frame.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The decisions and the verdict.
    pub trace: Trace,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// The least that a ring buffer can have.
const NO_RING: u32 = 4096;
/// What the kernel may add to a frame.
const GROWTH: usize = 256;

impl DryRunner {
    /// Loads the twin, which takes the verifier a moment.
    pub fn load(source: &TwinSource) -> Result<Self, Error> {
        let program = source.load(features::DRY_RUN, NO_RING)?;
        Ok(Self {
            program,
            runs: Vec::new(),
        })
    }

    /// Runs it on a frame that comes in by an interface (Linux 5.15).
    pub fn run(&mut self, frame: &[u8], ifindex: u32) -> Result<DryRun, Error> {
        /// `struct xdp_md`
        #[repr(C)]
        #[derive(zerocopy::IntoBytes, zerocopy::Immutable)]
        struct Context {
            data: u32,
            data_end: u32,
            data_meta: u32,
            ingress_ifindex: u32,
            rx_queue_index: u32,
            egress_ifindex: u32,
        }
        let context = Context {
            data: 0,
            data_end: frame.len() as u32,
            data_meta: 0,
            ingress_ifindex: ifindex,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        let mut out = vec![0; frame.len() + GROWTH];
        let failed = |error: &dyn std::error::Error| Error::TestRun {
            reason: chain(error),
        };
        let result = self
            .program
            .xdp()?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(zerocopy::IntoBytes::as_bytes(&context)),
                ..TestRunOptions::default()
            })
            .map_err(|error| failed(&error))?;
        out.truncate(result.data_size_out as usize);
        Ok(DryRun {
            trace: self.trace()?,
            frame: out,
        })
    }

    /// The trace of the CPU that has just left one.
    fn trace(&mut self) -> Result<Trace, Error> {
        let missing = || Error::TestRun {
            reason: "the program left no trace".to_owned(),
        };
        let failed = |error: &dyn std::error::Error| Error::TestRun {
            reason: chain(error),
        };
        let map = self.program.ebpf.map(trace::MAP).ok_or_else(missing)?;
        let map: PerCpuArray<_, Plain<Trace>> = map
            .try_into()
            .map_err(|error: aya::maps::MapError| failed(&error))?;
        let values = map.get(&0, 0).map_err(|error| failed(&error))?;
        self.runs.resize(values.len(), 0);
        let mut found = None;
        for (before, Plain(trace)) in self.runs.iter_mut().zip(values.iter()) {
            if trace.runs != *before {
                *before = trace.runs;
                found = Some(*trace);
            }
        }
        found.ok_or_else(missing)
    }
}
