use proptest::prelude::*;

use super::super::story::{self, CUT, KILL, SECOND};
use super::*;

const GOLDEN: &str = include_str!("tests/story.svg");

/// Where the golden picture is; `MESHBOOT_BLESS=1` writes it anew, to be looked at before it is committed.
fn golden(picture: &str) {
    if std::env::var_os("MESHBOOT_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/timeline/svg/tests/story.svg");
        std::fs::write(path, picture).unwrap();
        return;
    }
    assert!(
        picture == GOLDEN,
        "the picture is another than tests/story.svg: MESHBOOT_BLESS=1 writes it anew"
    );
}

#[test]
fn a_bad_day_is_the_picture_that_was_looked_at() {
    golden(&svg(&story::timeline(), &Options::default()));
}

#[test]
fn the_same_timeline_gives_the_same_octets_in_whatever_order_it_came() {
    let mut entries = story::entries();
    entries.reverse();
    let other = Timeline::new(story::timeline().machines, entries, story::names());
    assert_eq!(svg(&other, &Options::default()), svg(&story::timeline(), &Options::default()));
}

#[test]
fn there_is_no_script_and_no_text_becomes_markup() {
    let mut timeline = story::timeline();
    timeline.entries.push(story::fault(
        KILL + 1,
        "f3",
        "x",
        &[1],
        "</text><script>alert(\"&\")</script>\u{1}\n",
    ));
    let picture = svg(&timeline, &Options::default());
    assert!(!picture.contains("<script") && !picture.contains('\u{1}'));
    assert!(picture.contains("&lt;script&gt;"));
}

#[test]
fn nothing_is_a_picture_too() {
    for timeline in
        [Timeline::default(), Timeline { machines: vec!["seed".to_owned()], ..Timeline::default() }]
    {
        let picture = svg(&timeline, &Options::default());
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    }
}

#[test]
fn ticks_are_numbers_that_people_count_in() {
    let ticks = |from, to, origin| {
        let ticks = Ticks::new(&Scale { from, to, left: 0.0, right: 640.0 }, origin);
        let texts: Vec<String> = ticks.marks.into_iter().map(|(_, text)| text).collect();
        (ticks.unit, texts.join(" "))
    };
    let told = |unit, texts: &str| (unit, texts.to_owned());
    assert_eq!(
        ticks(CUT - 10 * SECOND, CUT + 80 * SECOND, Some(CUT)),
        told("seconds", "\u{2212}10 0 10 20 30 40 50 60 70 80")
    );
    assert_eq!(ticks(CUT - SECOND, CUT + 600 * SECOND, Some(CUT)), told("minutes", "0 2 4 6 8 10"));
    assert_eq!(ticks(CUT, CUT + 300_000, Some(CUT)), told("milliseconds", "0 50 100 150 200 250 300"));
    // It began before what is seen.
    assert_eq!(
        ticks(CUT + 20 * SECOND, CUT + 50 * SECOND, Some(CUT)),
        told("seconds", "20 25 30 35 40 45 50")
    );
    let (_, texts) = ticks(CUT - 10 * SECOND, CUT + 80 * SECOND, None);
    assert_eq!(texts.split(' ').next(), Some("20:02:10"));
    let (unit, texts) = ticks(0, 400 * 24 * 3600 * SECOND, Some(0));
    assert!(unit == "hours" && texts.split(' ').count() <= 11, "{texts}");
}

#[test]
fn texts_are_shortened_to_their_room() {
    assert_eq!(shorten("short", 10.0, 100.0), "short");
    let short = shorten("a label that goes on and on", 10.0, 100.0);
    assert!(short.ends_with('\u{2026}') && text_width(&short, 10.0) <= 100.0, "{short}");
}

proptest! {
    /// Labels do not lie on each other, are on the picture, and no line of a later one goes through an earlier one.
    #[test]
    fn labels_have_their_own_places(places in prop::collection::vec((0_u32..900, "[a-z ]{1,40}"), 0..20)) {
        let right = 900.0;
        let labels = rows(places.into_iter().map(|(x, text)| (f64::from(x), text)).collect(), 11.0, right);
        let extent = |label: &Label| (label.left, label.left + text_width(&label.text, 11.0) + 8.0);
        for (index, one) in labels.iter().enumerate() {
            let (left, end) = extent(one);
            prop_assert!(end <= right + 0.01);
            for other in &labels[index + 1..] {
                let (other_left, other_end) = extent(other);
                let over = left < other_end && other_left < end;
                prop_assert!(!(over && one.row == other.row), "{one:?} {other:?}");
                let crossed = (left..=end).contains(&other.x) && one.row < other.row;
                prop_assert!(!crossed, "{one:?} {other:?}");
            }
        }
    }

    /// Whatever happened can be drawn.
    #[test]
    fn whatever_happened_can_be_drawn(
        times in prop::collection::vec((any::<u64>(), 0_u8..5, 0_u8..8), 0..30),
        from in prop::option::of(any::<u64>()), to in prop::option::of(any::<u64>()), width: u16,
    ) {
        let entry = |(at, machine, kind): (u64, u8, u8)| match kind {
            0 => story::fault(at, "f1", "node kill", &[machine], "kill"),
            1 => story::undone(at, "f1", "asked to"),
            2 => story::carrier(at, machine, 1, false),
            3 => story::carrier(at, machine, 1, true),
            4 => story::route(at, machine, 1, 0, 1),
            5 => story::ready(at, machine, at % 2 == 0),
            6 => story::pod(at, machine, "web", super::super::kubernetes::PodFate::Scheduled),
            _ => story::fault(at, "f2", "node freeze", &[machine], "freeze"),
        };
        let entries = times.into_iter().map(entry).collect();
        let timeline = Timeline::new(story::timeline().machines, entries, story::names());
        let picture = svg(&timeline, &Options { from, to, width });
        prop_assert!(!picture.contains("NaN") && !picture.contains("inf"));
    }
}
