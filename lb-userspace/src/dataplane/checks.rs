//! The table of health checks that go through the data path.

use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{Array, MapData};
use lb_common::abi::{Check, maps};

use super::{
    error::{Error, chain},
    plain::Plain,
};

/// Who checks whom from which port; changed by checks beside all else.
#[derive(Clone)]
pub struct CheckTable(Arc<Mutex<Array<MapData, Plain<Check>>>>);

impl CheckTable {
    pub(super) fn new(map: Array<MapData, Plain<Check>>) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// Forgets what stands at that port, if it is of a check that came by that interface.
    pub fn clear(&self, port: u16, interface: u32) -> Result<(), Error> {
        let found = {
            let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            map.get(&u32::from(port), 0).map_err(|error| Error::Table {
                table: maps::CHECKS,
                action: "read",
                reason: chain(&error),
            })?
        };
        if found.0.interface == interface {
            self.set(port, Check::default())?;
        }
        Ok(())
    }

    /// Forgets all that an earlier agent left.
    pub fn clear_all(&self) -> Result<(), Error> {
        (0..=u16::MAX).try_for_each(|port| self.set(port, Check::default()))
    }

    /// What comes from a port belongs to that check from now on. At port 0 stands the interface that
    /// checks come by.
    pub fn set(&self, port: u16, check: Check) -> Result<(), Error> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.set(u32::from(port), Plain(check), 0)
            .map_err(|error| Error::Table {
                table: maps::CHECKS,
                action: "write",
                reason: chain(&error),
            })
    }
}

impl std::fmt::Debug for CheckTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckTable")
    }
}
