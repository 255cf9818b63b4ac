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
