//! The report as one HTML file: no script, nothing loaded from anywhere, dark and light.

use std::fmt::Write;

use super::report::Rehearsal;
use crate::units::human_bytes;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--bar:#4477aa;--bad:#cc3311;--good:#228833;--dim:#777}\
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}\
.figures{display:flex;flex-wrap:wrap;gap:1rem}\
.figure{border:1px solid var(--line);border-radius:.5rem;padding:.7rem 1rem;min-width:9rem}\
.figure b{display:block;font-size:1.4rem}.bad b{color:var(--bad)}.good b{color:var(--good)}\
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left}\
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}td.w{overflow-wrap:anywhere;min-width:9rem}\
.wide{overflow-x:auto}small{color:var(--dim)}\
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:currentColor}\
.lane{stroke:var(--line)}.step{fill:var(--bar)}.lock{fill:var(--dim)}.blocking{fill:var(--bad)}";

/// Locks that are drawn; the longest ones.
const DRAWN: usize = 20;

/// The page.
#[must_use]
pub fn html(rehearsal: &Rehearsal) -> String {
    let mut page = String::new();
    let title = format!("Rehearsal of {}", escape(&rehearsal.migration));
    let at = rehearsal.began.strftime("%Y-%m-%d %H:%M UTC");
    // Writing to a String does not fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>\
         <p>{at}, on backup {}. Plan {}, source {}.</p>",
        escape(rehearsal.backup.as_str()),
        short(&rehearsal.plan),
        short(&rehearsal.source)
    );
    figures(&mut page, rehearsal);
    if !rehearsal.findings.is_empty() {
        page.push_str("<h2>What was wrong</h2><ul>");
        for finding in &rehearsal.findings {
            let _ = write!(page, "<li>{}</li>", escape(finding));
        }
        page.push_str("</ul>");
    }
    page.push_str("<h2>Time line</h2>");
    timeline(&mut page, rehearsal);
    steps(&mut page, rehearsal);
    locks(&mut page, rehearsal);
    server_log(&mut page, rehearsal);
    felt(&mut page, rehearsal);
    if !rehearsal.skipped.is_empty() {
        page.push_str("<h2>Not rehearsed</h2><p>These act on something else than the databases:</p><ul>");
        for skipped in &rehearsal.skipped {
            let (stage, step, operation) = (escape(&skipped.stage), escape(&skipped.step), escape(&skipped.operation));
            let _ = write!(page, "<li>{stage} / {step} ({operation})</li>");
        }
        page.push_str("</ul>");
    }
    page.push_str(
        "<p><small>Expected is the time on the copy, scaled by the size of the source. A lock is seen by a session that \
         looks every 10 ms; in red those that keep writers waiting. The load reads and rewrites rows of the largest tables \
         and takes that back.</small></p></body></html>\n",
    );
    page
}

fn figures(page: &mut String, rehearsal: &Rehearsal) {
    let longest = rehearsal.longest_lock().map_or(0, |held| held.milliseconds);
    let wal: i64 = rehearsal.steps.iter().map(|step| step.cost.wal_bytes).sum();
    let stalled = rehearsal.felt.iter().map(|felt| felt.longest_milliseconds).max().unwrap_or(0);
    let (verdict, why, class) = match rehearsal.passed {
        true => ("passed", "within its limits", "good"),
        false => ("failed", "see what was wrong", "bad"),
    };
    page.push_str("<div class=\"figures\">");
    for (figure, what, class) in [
        (verdict.to_owned(), why.to_owned(), class),
        (time(rehearsal.window_milliseconds), "to expect in production".to_owned(), ""),
        (
            time(rehearsal.milliseconds),
            format!("on the copy of {}, measuring included", bytes(rehearsal.copy_bytes)),
            "",
        ),
        (time(longest), "the longest lock that keeps writers waiting".to_owned(), ""),
        (time(stalled), "the longest that the load waited".to_owned(), ""),
        (bytes(wal), "of WAL".to_owned(), ""),
    ] {
        let _ = write!(page, "<div class=\"figure {class}\"><b>{}</b>{}</div>", escape(&figure), escape(&what));
    }
    page.push_str("</div>");
}

/// Steps as a band, and under it the longest locks, by time.
fn timeline(page: &mut String, rehearsal: &Rehearsal) {
    let mut locks: Vec<_> = rehearsal.locks.iter().collect();
    locks.sort_by_key(|held| std::cmp::Reverse((held.keeps_writers_waiting(), held.milliseconds)));
    locks.truncate(DRAWN);
    locks.sort_by_key(|held| held.from);
    let steps = rehearsal.steps.iter().map(|step| (step.from, step.from + step.milliseconds));
    let all = steps.chain(locks.iter().map(|held| (held.from, held.from + held.milliseconds)));
    let begin = all.clone().map(|(from, _)| from).min().unwrap_or(0);
    let span = all.map(|(_, to)| to).max().unwrap_or(0).saturating_sub(begin).max(1);
    let x = |at: u64| 260.0 + 700.0 * at as f64 / span as f64;
    let height = 40 + 22 * (locks.len() + 1);
    let _ =
        write!(page, "<div class=\"wide\"><svg viewBox=\"0 0 980 {height}\" role=\"img\" aria-label=\"time line\">");
    let _ = write!(page, "<text x=\"0\" y=\"24\">steps</text>");
    for step in &rehearsal.steps {
        let (from, to) = (x(step.from - begin), x(step.from - begin + step.milliseconds));
        let _ = write!(
            page,
            "<rect class=\"step\" x=\"{from:.1}\" y=\"12\" width=\"{:.1}\" height=\"16\"><title>{}: {}</title></rect>",
            (to - from).max(1.0),
            escape(&step.step),
            time(step.milliseconds)
        );
    }
    for (row, held) in locks.iter().enumerate() {
        let y = 40 + 22 * row;
        let (from, width) = (held.from - begin, 700.0 * held.milliseconds as f64 / span as f64);
        let class = if held.keeps_writers_waiting() { "blocking" } else { "lock" };
        let relation = held.relation.split_once('.').map_or(held.relation.as_str(), |(_, relation)| relation);
        let _ = write!(
            page,
            "<text x=\"0\" y=\"{}\">{} {}</text><line class=\"lane\" x1=\"260\" x2=\"960\" y1=\"{}\" y2=\"{}\"/>\
             <rect class=\"{class}\" x=\"{:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"14\"><title>{}: {}</title></rect>",
            y + 12,
            escape(&clip(relation, 20)),
            escape(held.mode.trim_end_matches("Lock")),
            y + 16,
            y + 16,
            x(from),
            width.max(2.0),
            escape(&held.relation),
            time(held.milliseconds)
        );
    }
    let _ = write!(page, "<text x=\"960\" y=\"{}\" text-anchor=\"end\">{}</text></svg></div>", height - 4, time(span));
}

fn steps(page: &mut String, rehearsal: &Rehearsal) {
    page.push_str(
        "<h2>Steps</h2><div class=\"wide\"><table><tr><th>stage</th><th>step</th><th class=\"n\">took</th>\
         <th class=\"n\">expected</th><th class=\"n\">WAL</th><th class=\"n\">temporary</th><th class=\"n\">grown</th>\
         <th>written anew</th></tr>",
    );
    for step in &rehearsal.steps {
        let rewritten: Vec<String> = step
            .cost
            .rewrites
            .iter()
            .map(|one| format!("{} {} ({})", one.kind, one.relation, bytes(one.bytes)))
            .collect();
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"w\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"w\">{}</td></tr>",
            escape(&step.stage),
            escape(&step.step),
            time(step.milliseconds),
            time(step.expected_milliseconds),
            bytes(step.cost.wal_bytes),
            bytes(step.cost.temp_bytes),
            bytes(step.cost.grown_bytes),
            escape(&rewritten.join(", "))
        );
    }
    page.push_str("</table></div>");
}

fn locks(page: &mut String, rehearsal: &Rehearsal) {
    page.push_str(
        "<h2>Locks</h2><div class=\"wide\"><table><tr><th>relation</th><th>mode</th><th class=\"n\">from</th>\
         <th class=\"n\">held</th><th>writers</th></tr>",
    );
    for held in &rehearsal.locks {
        let _ = write!(
            page,
            "<tr><td class=\"w\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&held.relation),
            escape(&held.mode),
            time(held.from),
            time(held.milliseconds),
            if held.keeps_writers_waiting() { "wait" } else { "go on" }
        );
    }
    page.push_str("</table></div>");
}

fn server_log(page: &mut String, rehearsal: &Rehearsal) {
    let log = &rehearsal.server_log;
    page.push_str("<h2>What the server's log says</h2>");
    if let Some(why) = &log.not_read {
        let _ = write!(page, "<p>It was not read: {}.</p>", escape(why));
        return;
    }
    if log.waits.is_empty() {
        page.push_str("<p>Nobody waited for a lock.</p>");
    } else {
        page.push_str(
            "<div class=\"wide\"><table><tr><th>waited for</th><th>mode</th><th>who</th><th class=\"n\">waits</th>\
             <th class=\"n\">longest</th><th class=\"n\">together</th></tr>",
        );
        for wait in &log.waits {
            let _ = write!(
                page,
                "<tr><td class=\"w\">{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escape(&wait.relation),
                escape(&wait.mode),
                escape(wait.waiter()),
                wait.waits,
                time(wait.longest_milliseconds),
                time(wait.milliseconds)
            );
        }
        page.push_str("</table></div>");
    }
    if !log.statements.is_empty() {
        page.push_str("<div class=\"wide\"><table><tr><th>statement</th><th class=\"n\">took</th></tr>");
        for one in &log.statements {
            let (statement, took) = (escape(&one.statement), time(one.milliseconds));
            let _ = write!(page, "<tr><td class=\"w\">{statement}</td><td class=\"n\">{took}</td></tr>");
        }
        page.push_str("</table></div>");
    }
    for note in &log.notes {
        let _ = write!(page, "<p>{}</p>", escape(note));
    }
}

fn felt(page: &mut String, rehearsal: &Rehearsal) {
    page.push_str(
        "<h2>What others felt</h2><div class=\"wide\"><table><tr><th>table</th><th class=\"n\">operations</th>\
         <th class=\"n\">longest</th><th class=\"n\">over 100 ms</th><th class=\"n\">refused</th></tr>",
    );
    for felt in &rehearsal.felt {
        let _ = write!(
            page,
            "<tr><td class=\"w\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&felt.table),
            felt.operations,
            time(felt.longest_milliseconds),
            felt.slow,
            felt.errors
        );
    }
    page.push_str("</table></div>");
}

fn time(milliseconds: u64) -> String {
    match milliseconds {
        0..10_000 => format!("{milliseconds} ms"),
        10_000..600_000 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        _ => format!("{:.1} min", milliseconds as f64 / 60_000.0),
    }
}

fn bytes(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", human_bytes(bytes.unsigned_abs()))
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(most).collect::<String>())
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
