//! `lb gen-docs`: the reference pages, each from the code that does what it describes.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use clap::CommandFactory as _;
use lb_common::{
    decap,
    verdict::{Event, Verdict},
};
use lb_mysql::{proxy::Trouble, route::Reason, sql::Class};

use super::{Arguments, Failure, output::print};
use crate::{admin, config, metrics};

/// The pages, by file name.
fn pages() -> [(&'static str, String); 8] {
    [
        ("api.md", admin::reference()),
        ("cli.md", command_page()),
        ("config.md", config::reference()),
        ("lb.schema.json", config::json_schema()),
        ("metrics.md", metrics::reference()),
        ("mysql-routing.md", mysql_page()),
        ("openapi.json", format!("{:#}\n", admin::openapi())),
        ("verdicts.md", verdict_page()),
    ]
}

pub(super) fn write_or_check(folder: &Path, check: bool) -> Result<(), Failure> {
    if !check {
        return write(folder).map_err(Failure::Failed);
    }
    let stale: Vec<&str> = pages()
        .iter()
        .filter(|(name, page)| fs::read_to_string(folder.join(name)).ok().as_ref() != Some(page))
        .map(|(name, _)| *name)
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "stale in {}: {} (`lb gen-docs --out {}` writes them anew)",
        folder.display(),
        stale.join(", "),
        folder.display()
    )))
}

fn write(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, page) in pages() {
        let file = folder.join(name);
        fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
        print(format!("{}\n", file.display()).as_bytes())
            .map_err(|_| anyhow::anyhow!("cannot write to stdout"))?;
    }
    Ok(())
}

fn command_page() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut page = format!(
        "# The command `lb`\n\n\
         <!-- Made by `lb gen-docs` from lb-userspace/src/cli/mod.rs. Do not edit. -->\n\n\
         Exit status: 0 fine, 1 failed at run time, 2 wrong usage or wrong config. Errors are \
         sentences on stderr.\n\n```text\n{}\n```\n",
        help(&mut command)
    );
    for subcommand in command.get_subcommands_mut() {
        if subcommand.is_hide_set() || subcommand.get_name() == "help" {
            continue;
        }
        let help = help(subcommand);
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## `lb {}`\n\n```text\n{help}\n```\n",
            subcommand.get_name()
        );
    }
    page
}

fn help(command: &mut clap::Command) -> String {
    let help = command.render_long_help().to_string();
    help.trim_end()
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

fn mysql_page() -> String {
    let mut page = "# Where MySQL statements go\n\n\
        <!-- Made by `lb gen-docs` from lb-userspace/mysql. Do not edit. -->\n\n\
        `lb mysql explain` says it of any statement. What is not known to be a read goes to the \
        primary.\n\n\
        ## Reasons\n\n| reason | meaning |\n|---|---|\n"
        .to_owned();
    for reason in Reason::ALL {
        let _ = writeln!(page, "| `{}` | {} |", reason.label(), reason.explanation());
    }
    page.push_str("\n## Errors (`lb_mysql_errors_total`)\n\n| kind | meaning |\n|---|---|\n");
    for trouble in Trouble::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} |",
            trouble.label(),
            trouble.explanation()
        );
    }
    page.push_str("\n## Classes of statements\n\n| class | what it is |\n|---|---|\n");
    for class in Class::ALL {
        let _ = writeln!(page, "| `{}` | {} |", class.label(), class.explanation());
    }
    page
}

fn verdict_page() -> String {
    let mut page = "# Verdicts\n\n\
        <!-- Made by `lb gen-docs` from lb-common/src/verdict.rs and decap/verdict.rs. Do not edit. -->\n\n\
        Every packet that the program sees leaves with exactly one verdict, and each is counted: \
        in `verdicts` of `lb status --json`. Their sum is the number of packets seen.\n\n\
        | verdict | meaning |\n|---|---|\n"
        .to_owned();
    for verdict in Verdict::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} |",
            verdict.label(),
            verdict.explanation()
        );
    }
    page.push_str(
        "\n## Events\n\n\
         What happens beside a verdict is counted in `events`; a packet may cause several, or \
         none.\n\n| event | meaning |\n|---|---|\n",
    );
    for event in Event::ALL {
        let _ = writeln!(page, "| `{}` | {} |", event.label(), event.explanation());
    }
    page.push_str(
        "\n## Decapsulation\n\n\
         Every packet that the decapsulation program of an app host sees, in `app_host.verdicts`.\n\
         Lengths and the header checksum of IPv4 are checked; a UDP checksum around a \
         packet and the outer destination are not. Of ECN see RFC 6040.\n\n\
         | verdict | meaning |\n|---|---|\n",
    );
    for verdict in decap::Verdict::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} |",
            verdict.label(),
            verdict.explanation()
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_what_they_are_about() {
        let [
            (_, api),
            (_, cli),
            (_, config),
            (_, schema),
            (_, metrics),
            (_, mysql),
            (_, openapi),
            (_, verdicts),
        ] = pages();
        for command in ["run", "check", "status", "flows", "detach", "completions"] {
            assert!(cli.contains(&format!("## `lb {command}`")), "{command}");
        }
        assert!(!cli.contains("gen-docs`\n"));
        assert!(config.contains("## `[[service.backend]]`"));
        assert!(api.contains("## `PATCH /backends/SERVICE/BACKEND` *token*"));
        assert!(openapi.contains("\"/backends/{service}/{backend}\""));
        assert!(metrics.contains("| `lb_verdicts_total` | counter | `verdict` |"));
        assert!(mysql.contains("| `in_transaction` |") && mysql.contains("| `locking_read` |"));
        assert!(schema.starts_with('{') && schema.contains("\"half_open_flows\""));
        for verdict in Verdict::ALL {
            assert!(verdicts.contains(&format!("| `{}` |", verdict.label())));
        }
    }

    #[test]
    fn a_stale_page_is_named_and_a_fresh_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        assert!(write_or_check(folder.path(), true).is_ok());
        fs::write(folder.path().join("cli.md"), "old").unwrap();
        let Err(Failure::Failed(error)) = write_or_check(folder.path(), true) else {
            panic!("a stale page went unseen");
        };
        assert!(error.to_string().contains(": cli.md ("), "{error}");
    }
}
