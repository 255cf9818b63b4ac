//! `lb flows`

use std::{io, path::Path};

use super::{Failure, flow_page::FlowPage, output::Output};
use crate::{
    admin::client,
    flow_list::{Query, document},
};

/// Why the rest of a list is of no use.
#[derive(Debug)]
enum Enough {
    /// Whoever reads our stdout has seen enough.
    ReaderGone,
    Failed(Failure),
}

impl From<io::Error> for Enough {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        Self::Failed(Failure::Failed(
            anyhow::Error::new(error).context("cannot write to stdout"),
        ))
    }
}

impl From<document::NotADocument> for Enough {
    fn from(error: document::NotADocument) -> Self {
        Self::Failed(Failure::failed(error))
    }
}

pub(super) fn flows(socket: &Path, query: &Query, json: bool) -> Result<(), Failure> {
    let mut output = Output::new();
    let result = if json {
        client::flows(socket, query, |piece| Ok(output.write(piece)?))
    } else if query.count {
        let mut reader = document::Reader::default();
        client::flows(socket, query, |piece| {
            reader.read(piece, |line| match line {
                document::Line::Total(total) => Ok(output.write(format!("{total}\n").as_bytes())?),
                document::Line::Flow(_) => Err(document::NotADocument.into()),
            })
        })
    } else {
        let mut page = FlowPage::default();
        let listed = client::flows(socket, query, |piece| {
            page.read(piece)?;
            Ok(output.write(&page.take())?)
        });
        listed.map(|taken| {
            taken.and_then(|()| {
                page.finish()?;
                Ok(output.write(&page.take())?)
            })
        })
    };
    match result.map_err(Failure::failed)? {
        Ok(()) | Err(Enough::ReaderGone) => Ok(()),
        Err(Enough::Failed(failure)) => Err(failure),
    }
}
