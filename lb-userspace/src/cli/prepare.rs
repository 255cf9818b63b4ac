//! `lb prepare`

use std::path::Path;

use super::{Failure, output::print};
use crate::agent;

pub(super) fn prepare(file: &Path, user: &str) -> Result<(), Failure> {
    let model = super::load(file, &[])?.model;
    let given = agent::prepare(&model, user).map_err(Failure::failed)?;
    let names: Vec<String> = given
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    print(format!("prepared for {user}: {}\n", names.join(", ")).as_bytes())
}
