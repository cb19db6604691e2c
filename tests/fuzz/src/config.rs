//! The config file: a plan that keeps what the plan's types promise, or every mistake with its place.

use std::collections::HashSet;

use netpoll::{
    config::{Machine, Mistakes, Plan, parse},
    port::MAX_BURST,
};

/// The input is the file.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match parse("fuzz.toml", text, &Machine::with_cpus(vec![0, 1, 2, 3])) {
        Ok(plan) => check_plan(&plan),
        Err(mistakes) => check_mistakes(text, &mistakes),
    }
}

fn check_plan(plan: &Plan) {
    assert!(!plan.to_string().is_empty());
    assert!(!plan.ports.is_empty());
    assert!(!plan.eal.lcores.is_empty());
    assert!(plan.eal.lcores.is_sorted_by(|a, b| a < b));
    assert!((1..=MAX_BURST).contains(&usize::from(plan.engine.burst_frames)));
    let names: HashSet<_> = plan.ports.iter().map(|port| &port.name).collect();
    assert_eq!(names.len(), plan.ports.len(), "port names");
    for port in &plan.ports {
        assert!(!port.queue_lcores.is_empty());
        assert_eq!(port.queues().count(), port.queue_lcores.len());
        assert!(port.queue_lcores.iter().all(|lcore| plan.eal.lcores.contains(lcore)), "{port:?}");
        assert!(port.mbuf_bytes() > 0);
    }
    assert!(plan.clients.iter().all(|client| client.port < plan.ports.len() && client.ring_frames > 0));
    let holders: HashSet<_> = plan.sinks.iter().map(|sink| sink.port).collect();
    assert_eq!(holders.len(), plan.sinks.len(), "one sink a port");
    for sink in &plan.sinks {
        assert!(sink.port < plan.ports.len());
        assert!(!sink.outputs.is_empty());
    }
}

fn check_mistakes(text: &str, mistakes: &Mistakes) {
    let shown = mistakes.to_string();
    assert!(shown.starts_with("fuzz.toml:"), "{shown}");
    let lines = text.split('\n').count();
    let mut count = 0;
    for mistake in mistakes.iter() {
        count += 1;
        assert!((1..=lines).contains(&mistake.line), "{mistake:?}");
        assert!(mistake.column >= 1);
        assert!(!mistake.message.is_empty());
        assert!(!mistake.caret.is_empty() && mistake.caret.start <= mistake.quote.chars().count(), "{mistake:?}");
        // It is for a terminal, which nothing in the file may steer.
        assert!(!mistake.quote.contains(char::is_control), "{mistake:?}");
        assert!(!mistake.message.contains(char::is_control), "{mistake:?}");
        assert!(!mistake.key.contains(char::is_control), "{mistake:?}");
        assert!(mistake.quote.chars().count() <= 120, "{mistake:?}");
    }
    assert!(count > 0, "refused without a mistake: {shown}");
}
