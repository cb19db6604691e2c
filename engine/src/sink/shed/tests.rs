//! The policy, the headers, the markers, the rates.

use super::{
    header::{Marker, crash_marker},
    *,
};

fn src(last: u8) -> [u8; ADDR_BYTES] {
    let mut addr = [0; ADDR_BYTES];
    addr[ADDR_BYTES - 1] = last;
    addr
}

#[test]
fn headers_of_every_kind() {
    let cases: [(&[u8], u8, bool); 16] = [
        (b"<0>x", 0, true),
        (b"<7>x", 7, true),
        (b"<13>Nov 23 host app: x", 5, false),
        (b"<191>x", 7, false),
        (b"<192>x", UNKNOWN, true),
        (b"<0013>x", UNKNOWN, true),
        (b"<>x", UNKNOWN, true),
        (b"<1", UNKNOWN, true),
        (b"6,1234,5678,-;text", 6, true),
        (b"30,1,2,-,caller=T1;text", 6, true),
        (b"6.1.0-13-amd64,4,1234,5678,-;text", 4, true),
        (b"vendor+x,3,1,2,c;text", 3, true),
        (b"12,x", UNKNOWN, true),
        (b"12 monkeys, 3,4", UNKNOWN, true),
        (b"", UNKNOWN, true),
        (b"plain text", UNKNOWN, true),
    ];
    for (payload, severity, kernel) in cases {
        let header = Header::of(payload);
        assert_eq!((header.severity, header.kernel), (severity, kernel), "{}", payload.escape_ascii());
    }
}

#[test]
fn crash_markers_in_every_wrapping() {
    let marker = |payload: &[u8]| {
        let header = Header::of(payload);
        if header.kernel { crash_marker(&payload[header.text..]) } else { None }
    };
    let start: [&[u8]; 9] = [
        b"4,1000,99,-;------------[ cut here ]------------\n",
        b"6.12.1,4,1000,99,-,caller=T7;------------[ cut here ]------------\n",
        b"------------[ cut here ]------------\n",
        b"[   12.345678] ------------[ cut here ]------------",
        b"<4>Nov 23 14:00:00 host kernel: [   12.345678] ------------[ cut here ]------------",
        b"<4>1 2026-11-23T14:00:00Z host kernel - - - ------------[ cut here ]------------",
        b"0,1,2,-;Kernel panic - not syncing: Fatal exception",
        b"1,1,2,-;BUG: kernel NULL pointer dereference, address: 0000000000000000",
        b"4,5,6,-;Oops: 0002 [#1] PREEMPT SMP",
    ];
    for payload in start {
        assert_eq!(marker(payload), Some(Marker::Start), "{}", payload.escape_ascii());
    }
    assert_eq!(marker(b"4,9,9,-;---[ end trace 0000000000000000 ]---"), Some(Marker::End));
    assert_eq!(marker(b"0,9,9,-;---[ end Kernel panic - not syncing: x ]---"), Some(Marker::End));
    for payload in [
        &b"6,1,2,-;usb 1-1: new device"[..],
        b"<13>app: ------------[ cut here ]------------",
        b"6,1,2,-;",
        b"6,1,2,-",
        b"",
        b"[",
        b"[ 1.",
        b"<4>",
        b"- : - : ",
    ] {
        assert_eq!(marker(payload), None, "{}", payload.escape_ascii());
    }
}

#[test]
fn debug_goes_first_and_worse_than_error_last() {
    let mut shedder = Shedder::new(ShedPolicy::default());
    let mut shed_from = [0; 8];
    for level in (0..=16).rev() {
        for severity in 0..8u8 {
            let payload = [b"<", (128 + severity).to_string().as_bytes(), b">x"].concat();
            // Another source each time: none of them sends more than its share.
            if shedder.judge(&src(severity), &payload, level, 1) == Verdict::Severity(severity) {
                shed_from[usize::from(severity)] = shed_from[usize::from(severity)].max(level + 1);
            }
        }
    }
    assert_eq!(shed_from, [1, 1, 1, 2, 3, 5, 6, 8]);
}

#[test]
fn a_crash_is_kept_at_any_level_and_only_from_its_source() {
    let mut shedder = Shedder::new(ShedPolicy::default());
    let line = b"4,7,7,-; asm_exc_page_fault+0x22/0x30";
    assert_eq!(shedder.judge(&src(1), line, 0, 1), Verdict::Severity(4));
    // The marker came while there was no pressure yet.
    assert_eq!(shedder.judge(&src(1), b"4,6,6,-;------------[ cut here ]------------", 16, 1), Verdict::Keep);
    assert_eq!(shedder.judge(&src(1), line, 0, 2), Verdict::Keep);
    assert_eq!(shedder.judge(&src(2), line, 0, 2), Verdict::Severity(4));
    assert_eq!(shedder.judge(&src(1), b"<134>an application's line", 0, 2), Verdict::Severity(6));
    assert_eq!(shedder.judge(&src(1), b"4,8,8,-;---[ end trace 00 ]---", 0, 3), Verdict::Keep);
    for _ in 0..Crashes::LINES_AFTER - 1 {
        assert_eq!(shedder.judge(&src(1), line, 0, 3), Verdict::Keep);
    }
    assert_eq!(shedder.judge(&src(1), line, 0, 3), Verdict::Severity(4));
    shedder.judge(&src(1), b"0,1,1,-;Kernel panic - not syncing", 0, 3);
    assert_eq!(shedder.judge(&src(1), line, 0, 4), Verdict::Keep);
    assert_eq!(shedder.judge(&src(1), line, 0, 4 + Crashes::LASTS_NS), Verdict::Severity(4), "it lapses");
}

#[test]
fn one_screaming_source_is_shed_before_the_others() {
    let mut shedder = Shedder::new(ShedPolicy::default());
    let line = b"<14>x";
    let mut now = 0;
    let mut shed = [0; 4];
    for _ in 0..50 {
        now += Rates::HALF_LIFE_NS / 10;
        shedder.tick(now);
        for _ in 0..100 {
            shed[0] += u32::from(shedder.judge(&src(0), line, 10, now) == Verdict::FairShare);
        }
        for quiet in 1..4 {
            shed[usize::from(quiet)] += u32::from(shedder.judge(&src(quiet), line, 10, now) != Verdict::Keep);
        }
    }
    assert!(shed[0] > 3900, "{shed:?}");
    assert_eq!(shed[1..], [0, 0, 0]);
}

#[test]
fn a_source_alone_or_among_equals_does_not_scream() {
    // Two of 50 sources share both counters for one pair of keys in 850: these are others.
    for (sources, keys) in [1, 2, 5, 50].into_iter().flat_map(|sources| (0..32).map(move |n| (sources, n))) {
        let keys = SourceKeys([0x9e37_79b9_7f4a_7c15 ^ keys, 0xd1b5_4a32_d192_ed03 + keys]);
        let mut shedder = Shedder::keyed(ShedPolicy::default(), keys);
        for now in 1..40 {
            shedder.tick(now * Rates::HALF_LIFE_NS / 4);
            for _ in 0..100 {
                for source in 0..sources {
                    let verdict = shedder.judge(&src(source), &[b'x'; 200], 10, now);
                    assert_eq!(verdict, Verdict::Keep, "{sources} sources");
                }
            }
        }
    }
}

#[test]
fn off_keeps_everything() {
    let mut shedder = Shedder::new(ShedPolicy::OFF);
    assert_eq!(shedder.judge(&src(1), b"<15>x", 0, 1), Verdict::Keep);
}
