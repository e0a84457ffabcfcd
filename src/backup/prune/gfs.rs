//! Which backups stay: a pure choice over what is there. No clock takes part in it, so none can make it wrong.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::backup::BackupId;
use crate::policy::keep::Keep;

/// A backup as the choice sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its identifier.
    pub id: BackupId,
    /// When its manifest was stored, by the store's clock.
    pub stored: Option<Timestamp>,
    /// True when a drill has proven it.
    pub proven: bool,
}

/// The period in which a day lies, as it is told.
type PeriodName = fn(&jiff::civil::Date) -> String;

/// Why each backup stays, in the order of the candidates; one without a reason goes.
///
/// The newest backup and the newest proven one stay whatever the policy says. Which is the newest is asked twice, of
/// the identifiers and of the store's clock: where the clock of the host that makes backups went back, the two differ,
/// and both stay.
#[must_use]
pub fn reasons(candidates: &[Candidate], keep: &Keep) -> Vec<Vec<String>> {
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); candidates.len()];
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| candidates.get(*b).map(|c| &c.id).cmp(&candidates.get(*a).map(|c| &c.id)));
    let mut add = |index: usize, reason: String| {
        if let Some(list) = reasons.get_mut(index) {
            list.push(reason);
        }
    };
    let newest = |proven: bool| {
        let wanted = |index: &&usize| candidates.get(**index).is_some_and(|c| c.proven || !proven);
        let by_id = order.iter().find(wanted).copied();
        let by_store =
            order.iter().filter(wanted).max_by_key(|index| candidates.get(**index).map(|c| c.stored)).copied();
        let mut found: BTreeSet<usize> = by_id.into_iter().collect();
        found.extend(by_store);
        found
    };
    for index in newest(false) {
        add(index, "the newest".into());
    }
    for index in newest(true) {
        add(index, "the newest proven".into());
    }
    for index in order.iter().take(size(keep.last)) {
        add(*index, format!("of the last {}", keep.last));
    }
    let periods: [(u32, PeriodName); 4] = [
        (keep.daily, |date| format!("daily, {date}")),
        (keep.weekly, |date| {
            let week = date.iso_week_date();
            format!("weekly, {}-W{:02}", week.year(), week.week())
        }),
        (keep.monthly, |date| format!("monthly, {}", date.strftime("%Y-%m"))),
        (keep.yearly, |date| format!("yearly, {}", date.year())),
    ];
    for (count, name) in periods {
        let mut seen = BTreeSet::new();
        for index in &order {
            let Some(began) = candidates.get(*index).and_then(|candidate| candidate.id.began()) else { continue };
            let period = name(&began.to_zoned_datetime(TimeZone::UTC).date());
            if seen.len() < size(count) && seen.insert(period.clone()) {
                add(*index, period);
            }
        }
    }
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.id.began().is_none() {
            add(index, "its identifier is no instant".into());
        }
    }
    reasons
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backup(text: &str) -> Candidate {
        let stored = BackupId::began(&format!("{text}-00000000").parse().unwrap());
        Candidate { id: format!("{text}-00000000").parse().unwrap(), stored, proven: false }
    }

    const NONE: Keep = Keep { last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

    fn check(keep: Keep, backups: &[&str], stay: &[(&str, &str)]) {
        let candidates: Vec<Candidate> = backups.iter().map(|text| backup(text)).collect();
        let reasons = reasons(&candidates, &keep);
        let kept: Vec<(&str, String)> =
            backups.iter().zip(&reasons).filter(|(_, r)| !r.is_empty()).map(|(b, r)| (*b, r.join("; "))).collect();
        let expected: Vec<(&str, String)> = stay.iter().map(|(b, r)| (*b, (*r).to_owned())).collect();
        assert_eq!(kept, expected);
    }

    const DAYS: [&str; 6] = [
        "20261231T230000Z",
        "20261231T020000Z",
        "20261230T020000Z",
        "20261228T020000Z",
        "20261227T235959Z",
        "20251231T020000Z",
    ];

    #[test]
    fn of_each_period_its_newest_backup_stays_and_empty_periods_do_not_count() {
        check(
            Keep { daily: 3, ..NONE },
            &DAYS,
            &[
                (DAYS[0], "the newest; daily, 2026-12-31"),
                (DAYS[2], "daily, 2026-12-30"),
                (DAYS[3], "daily, 2026-12-28"),
            ],
        );
        check(
            Keep { weekly: 3, ..NONE },
            &DAYS,
            // The last days of 2025 are of the first week of 2026; weeks begin on Monday.
            &[(DAYS[0], "the newest; weekly, 2026-W53"), (DAYS[4], "weekly, 2026-W52"), (DAYS[5], "weekly, 2026-W01")],
        );
        check(
            Keep { monthly: 9, ..NONE },
            &DAYS,
            &[(DAYS[0], "the newest; monthly, 2026-12"), (DAYS[5], "monthly, 2025-12")],
        );
        check(Keep { yearly: 1, ..NONE }, &DAYS, &[(DAYS[0], "the newest; yearly, 2026")]);
        check(Keep { last: 2, ..NONE }, &DAYS, &[(DAYS[0], "the newest; of the last 2"), (DAYS[1], "of the last 2")]);
    }

    #[test]
    fn a_clock_that_went_back_makes_two_newest_ones() {
        let mut candidates = [backup("20261231T030000Z"), backup("20261231T021500Z"), backup("20261230T000000Z")];
        // The second was made last, after the clock had gone back.
        candidates[1].stored = candidates[0].stored.map(|at| at + jiff::SignedDuration::from_mins(5));
        let reasons = reasons(&candidates, &Keep { yearly: 1, ..NONE });
        assert_eq!(reasons[1], ["the newest"]);
        assert!(reasons[0].contains(&"the newest".to_owned()) && reasons[2].is_empty());
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0i64..3_000_000, any::<Option<bool>>(), any::<bool>());
        proptest::collection::vec(one, 0..40).prop_map(|all| {
            let made = all.into_iter().map(|(minutes, shift, proven)| {
                let began = Timestamp::from_second(1_700_000_000 + minutes * 60).unwrap();
                let shift = jiff::SignedDuration::from_hours(shift.map_or(0, |forward| if forward { 1 } else { -1 }));
                Candidate { id: BackupId::new(began), stored: Some(began + shift), proven }
            });
            made.collect()
        })
    }

    proptest! {
        #[test]
        fn the_newest_stay_and_a_second_choice_takes_nothing_more(
            candidates in candidates(), last in 0u32..4, daily in 0u32..9, weekly in 0u32..9, monthly in 0u32..9, yearly in 0u32..4,
        ) {
            let keep = Keep { last, daily, weekly, monthly, yearly };
            let stay = |candidates: &[Candidate]| -> Vec<Candidate> {
                let reasons = reasons(candidates, &keep);
                candidates.iter().zip(reasons).filter(|(_, r)| !r.is_empty()).map(|(c, _)| c.clone()).collect()
            };
            let kept = stay(&candidates);
            for proven in [false, true] {
                let of = || candidates.iter().filter(|c| c.proven || !proven);
                if let Some(newest) = of().max_by_key(|c| c.id.clone()) {
                    prop_assert!(kept.contains(newest));
                    let stored = of().filter_map(|c| c.stored).max();
                    prop_assert!(kept.iter().any(|c| (c.proven || !proven) && c.stored == stored));
                }
            }
            prop_assert_eq!(&stay(&kept), &kept);
            // No more than the policy and the two rules ask for.
            prop_assert!(kept.len() <= usize::try_from(last + daily + weekly + monthly + yearly).unwrap() + 4);
        }
    }
}
