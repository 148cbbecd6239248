use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use crescendo::{
    Error,
    error::ErrorKind,
    media::queue::{Chain, Emit},
};

/// Counts its live instances.
struct Live(usize, Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn items_keep_their_order_and_stages_are_flushed() {
    let cancel = AtomicBool::new(false);
    let mut seen = Vec::new();
    let mut held: Option<u32> = None;
    let times = Chain::source(&cancel, "count", 2, (0..50).map(Ok))
        .stage("pairs", 2, move |item, emit: &mut Emit<u32>| {
            if let Some(before) = std::mem::replace(&mut held, item) {
                emit(before * 2)?;
                if item.is_some() {
                    emit(before * 2 + 1)?;
                }
            }
            Ok(())
        })
        .sink("collect", |v| {
            seen.push(v);
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, (0..=98).collect::<Vec<_>>());
    let items: Vec<_> = times.iter().map(|t| (t.name.as_str(), t.items)).collect();
    assert_eq!(items, [("count", 50), ("pairs", 50), ("collect", 99)]);
}

#[test]
fn queue_capacities_bound_memory_for_any_slow_stage() {
    for slow in ["source", "stage", "sink"] {
        let (cancel, live, most) =
            (AtomicBool::new(false), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pause = |name: &str| sleep(Duration::from_micros(if name == slow { 500 } else { 0 }));
        let source = (0..200).map(|i| {
            pause("source");
            most.fetch_max(live.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Ok(Live(i, live.clone()))
        });
        let mut next = 0;
        let times = Chain::source(&cancel, "source", 3, source)
            .stage("stage", 2, |item, emit| {
                pause("stage");
                item.map_or(Ok(()), &mut *emit)
            })
            .sink("sink", |item: Live| {
                pause("sink");
                assert_eq!(item.0, next);
                next += 1;
                Ok(())
            })
            .unwrap();
        // Three stages hold one item each, the queues hold five.
        assert!(most.load(Ordering::SeqCst) <= 8, "{slow}: {} alive at once", most.load(Ordering::SeqCst));
        assert_eq!((next, live.load(Ordering::SeqCst)), (200, 0), "{slow}");
        let busiest = times.iter().max_by_key(|t| t.busy).unwrap();
        assert_eq!(busiest.name, slow);
    }
}

#[test]
fn the_first_error_of_any_stage_is_reported() {
    let rows = [
        ("source", "source: no more film"),
        ("stage", "stage: no more film"),
        ("sink", "sink: no more film"),
        ("end", "stage: no more film"),
        ("panic", "stage: internal error: index 7 is off; please report it"),
    ];
    for (place, wanted) in rows {
        let cancel = AtomicBool::new(false);
        let fail = |here: &str, i: u32| {
            if here == place && i == 7 { Err(Error::failed("no more film")) } else { Ok(()) }
        };
        let endless = (0..).map(|i| fail("source", i).map(|()| i)).take(if place == "end" { 9 } else { usize::MAX });
        let error = Chain::source(&cancel, "source", 1, endless)
            .stage("stage", 1, |item, emit: &mut Emit<u32>| {
                let Some(i) = item else { return fail("end", 7) };
                assert!(!(place == "panic" && i == 7), "index 7 is off");
                fail("stage", i)?;
                emit(i)
            })
            .sink("sink", |i| fail("sink", i))
            .unwrap_err();
        assert_eq!(error.to_string(), wanted, "{place}");
    }
}

#[test]
fn cancelling_stops_an_endless_source_without_flushing() {
    let cancel = AtomicBool::new(false);
    let (start, mut flushed) = (Instant::now(), false);
    let error = Chain::source(&cancel, "source", 1, (0..).map(Ok))
        .stage("stage", 1, |item: Option<u64>, emit| {
            flushed |= item.is_none();
            emit(item.unwrap_or_default())
        })
        .sink("sink", |i: u64| {
            cancel.store(i >= 100, Ordering::Relaxed);
            Ok(())
        })
        .unwrap_err();
    assert_eq!((error.kind(), flushed), (ErrorKind::Interrupted, false));
    assert!(start.elapsed() < Duration::from_secs(5));
}
