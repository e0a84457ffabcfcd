//! The audit as one HTML file: no script, nothing loaded from anywhere, dark and light.

use std::fmt::Write;

use super::{Audit, Example, Group, NamespaceSum};
use crate::units::human_bytes;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--bar:#4477aa;--bad:#cc3311;--dim:#777}\
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}\
.figures{display:flex;flex-wrap:wrap;gap:1rem}\
.figure{border:1px solid var(--line);border-radius:.5rem;padding:.7rem 1rem;min-width:9rem}\
.figure b{display:block;font-size:1.4rem}.bad b{color:var(--bad)}\
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.w{overflow-wrap:anywhere;min-width:9rem}\
.bar{background:var(--bar);height:.8rem;border-radius:.2rem;min-width:1px}.bar.old{background:var(--bad)}\
.wide{overflow-x:auto}small{color:var(--dim)}";

/// The page.
#[must_use]
pub fn html(audit: &Audit) -> String {
    let mut page = String::new();
    let at = audit.at.strftime("%Y-%m-%d %H:%M UTC");
    let title = format!("Audit of {}", escape(&audit.database));
    // Writing to a String does not fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p>{at}</p>"
    );
    figures(&mut page, audit);
    let namespaces: Vec<(String, u64, String, bool)> = audit.namespaces.iter().map(of_namespace).collect();
    bars(&mut page, "What the namespaces take up", &namespaces);
    bars(&mut page, "Closed runs by age", &ages(audit));
    bars(&mut page, "What workflow types take up", &types(audit));
    examples(&mut page, "The largest histories", &audit.largest);
    examples(&mut page, "Open for long", &audit.oldest_open);
    tables(&mut page, audit);
    let found = &audit.orphans;
    for (number, what) in [
        (found.lost, "histories of runs have lost a row of history_tree; look at them before anything else"),
        (found.empty, "runs have no history"),
        (found.unreadable, "branches of histories cannot be read"),
        (found.young, "histories may be orphaned and are too young to tell"),
    ] {
        if number > 0 {
            let _ = write!(page, "<p>{number} {what}</p>");
        }
    }
    page.push_str(
        "<p><small>Gone should be a closed run whose retention has ended, and the policy's slack with it; the job \
         overdue sees to it. A run that is open for long has no retention, for it has not ended. Orphaned is a history \
         that no run refers to.</small></p>",
    );
    for note in &audit.notes {
        let _ = write!(page, "<p><small>{}</small></p>", escape(note));
    }
    page.push_str("</body></html>\n");
    page
}

fn figures(page: &mut String, audit: &Audit) {
    let orphans = &audit.orphans;
    let orphaned = orphans.branches + orphans.leftover_branches;
    let long_open: u64 = audit.namespaces.iter().map(|of| of.long_open.runs).sum();
    let mut figures = vec![
        (human_bytes(audit.bytes), "in all tables".to_owned(), false),
        (audit.runs.to_string(), "runs".to_owned(), false),
        (audit.overdue().to_string(), "closed runs that should be gone".to_owned(), audit.overdue() > 0),
        (
            orphaned.to_string(),
            format!("orphaned histories, {}", human_bytes(orphans.bytes + orphans.leftover_bytes)),
            orphaned > 0,
        ),
        (long_open.to_string(), "runs open for long".to_owned(), false),
    ];
    if let Some(growth) = &audit.growth {
        let sign = if growth.bytes_per_day < 0 { "-" } else { "+" };
        let rate = format!("{sign}{}", human_bytes(growth.bytes_per_day.unsigned_abs()));
        figures.push((rate, "a day".to_owned(), false));
        if let Some(days) = growth.disk_lasts_days {
            figures.push((format!("{days} days"), "until the disk is full".to_owned(), days < 30));
        }
    }
    page.push_str("<div class=\"figures\">");
    for (figure, what, bad) in figures {
        let class = if bad { "figure bad" } else { "figure" };
        let _ = write!(page, "<div class=\"{class}\"><b>{}</b>{}</div>", escape(&figure), escape(&what));
    }
    page.push_str("</div>");
}

fn of_namespace(of: &NamespaceSum) -> (String, u64, String, bool) {
    let bytes = of.open.bytes() + of.closed.bytes();
    let retention = of.retention.map_or_else(|| "unknown".to_owned(), |retention| retention.to_string());
    let overdue = if of.overdue.runs > 0 { format!(", {} overdue", of.overdue.runs) } else { String::new() };
    let said = format!(
        "{}, {} open, {} closed, retention {retention}{overdue}",
        human_bytes(bytes),
        of.open.runs,
        of.closed.runs
    );
    (of.namespace.clone(), bytes, said, of.overdue.runs > 0)
}

fn ages(audit: &Audit) -> Vec<(String, u64, String, bool)> {
    audit.ages().iter().map(|group| line(&group.name, group)).collect()
}

fn types(audit: &Audit) -> Vec<(String, u64, String, bool)> {
    let line = |(namespace, group): (&str, &Group)| line(&format!("{} ({namespace})", group.name), group);
    audit.types().into_iter().take(15).map(line).collect()
}

fn line(name: &str, group: &Group) -> (String, u64, String, bool) {
    let said = format!("{} of history in {} runs", human_bytes(group.sum.history_bytes), group.sum.runs);
    (name.to_owned(), group.sum.history_bytes, said, false)
}

fn bars(page: &mut String, title: &str, lines: &[(String, u64, String, bool)]) {
    let Some(most) = lines.iter().map(|(_, value, _, _)| *value).max() else { return };
    let _ = write!(page, "<h2>{}</h2><div class=\"wide\"><table>", escape(title));
    for (name, value, said, bad) in lines {
        let percent = value.saturating_mul(100).checked_div(most).unwrap_or(0);
        let class = if *bad { "bar old" } else { "bar" };
        let _ = write!(
            page,
            "<tr><td class=\"w\">{}</td><td style=\"width:45%\"><div class=\"{class}\" style=\"width:{percent}%\"></div>\
             </td><td>{}</td></tr>",
            escape(name),
            escape(said)
        );
    }
    page.push_str("</table></div>");
}

fn examples(page: &mut String, title: &str, examples: &[Example]) {
    if examples.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<h2>{}</h2><div class=\"wide\"><table><tr><th class=\"n\">history</th><th>namespace</th><th>type</th>\
         <th>workflow</th><th>started</th><th>closed</th></tr>",
        escape(title)
    );
    for example in examples {
        let day = |at: Option<jiff::Timestamp>| at.map_or_else(|| "-".into(), |at| at.strftime("%Y-%m-%d").to_string());
        let _ = write!(
            page,
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"w\">{}</td><td>{}</td><td>{}</td></tr>",
            human_bytes(example.history_bytes),
            escape(&example.namespace),
            escape(&example.workflow_type),
            escape(&example.workflow),
            day(example.started),
            day(example.closed)
        );
    }
    page.push_str("</table></div>");
}

fn tables(page: &mut String, audit: &Audit) {
    page.push_str(
        "<h2>Tables</h2><div class=\"wide\"><table><tr><th>table</th><th class=\"n\">size</th><th class=\"n\">indexes</th>\
         <th class=\"n\">rows</th><th class=\"n\">dead rows</th><th>what to change</th></tr>",
    );
    for table in audit.tables.iter().filter(|table| table.facts.rows > 0 || table.advice.is_some()) {
        let facts = &table.facts;
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td>{}</td></tr>",
            escape(&facts.name),
            human_bytes(facts.bytes),
            human_bytes(facts.index_bytes),
            facts.rows,
            facts.dead,
            escape(table.advice.as_deref().unwrap_or("-"))
        );
    }
    page.push_str("</table></div>");
    for leak in &audit.leaks {
        let _ = write!(page, "<p>{}: {} {}</p>", escape(&leak.table), leak.rows, escape(&leak.what));
    }
}

/// Names come from the users of the cluster.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escape("<b onclick='x'>&\"</b>"), "&lt;b onclick=&#39;x&#39;&gt;&amp;&quot;&lt;/b&gt;");
    }
}
