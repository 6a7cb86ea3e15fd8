//! Requests that are counted with labels from the configuration, apart from those without.

use super::metrics::Kind;
use super::requests::RequestSeries;
use arc_swap::ArcSwapOption;
use prometheus::IntGauge;
use std::ops::Deref;
use std::sync::Arc;

/// Where a request is counted apart from those without labels. As long as this is there, it is under way there, too.
#[derive(Debug)]
pub struct Apart {
    series: Arc<RequestSeries>,
    kind: Kind,
    in_flight: Option<IntGauge>,
}

impl Apart {
    /// Of a request that has been under way among those without labels.
    pub fn new(series: Arc<RequestSeries>, kind: Kind) -> Self {
        let in_flight = series.in_flight(kind).cloned();
        let this = Self {
            series,
            kind,
            in_flight,
        };
        this.in_flight.iter().for_each(IntGauge::inc);
        this.among_all().into_iter().for_each(IntGauge::dec);
        this
    }

    fn among_all(&self) -> Option<&IntGauge> {
        self.series.all_in_flight(self.kind)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.in_flight.iter().for_each(IntGauge::dec);
        self.among_all().into_iter().for_each(IntGauge::inc);
    }
}

impl Deref for Apart {
    type Target = RequestSeries;

    fn deref(&self) -> &RequestSeries {
        &self.series
    }
}

/// The sets of series of one Route's requests, found once for each upstream.
#[derive(Debug, Default)]
pub struct Found(ArcSwapOption<Vec<(Box<str>, Arc<RequestSeries>)>>);

impl Found {
    /// `find` is asked the first time.
    pub fn of(
        &self,
        upstream: &str,
        find: impl FnOnce() -> Arc<RequestSeries>,
    ) -> Arc<RequestSeries> {
        let known = self.0.load();
        let known = known.iter().flat_map(|known| known.iter());
        if let Some((_, series)) = known.into_iter().find(|(key, _)| **key == *upstream) {
            return Arc::clone(series);
        }
        let series = find();
        self.0.rcu(|known| {
            let mut all = known
                .as_ref()
                .map_or_else(Vec::new, |known| (**known).clone());
            if all.iter().all(|(key, _)| **key != *upstream) {
                all.push((upstream.into(), Arc::clone(&series)));
            }
            Some(Arc::new(all))
        });
        series
    }
}

#[cfg(test)]
mod tests {
    use super::super::requests::tests::requests;
    use super::*;

    #[test]
    fn a_request_that_is_counted_apart_is_under_way_there_alone() {
        let (_, _, requests) = requests(1000);
        let all = requests.plain.all_in_flight(Kind::Grpc).unwrap();
        all.inc();
        let series = requests.of("a", "");
        let gauge = series.in_flight(Kind::Grpc).unwrap().clone();
        let first = Apart::new(Arc::clone(&series), Kind::Grpc);
        assert_eq!((all.get(), gauge.get()), (0, 1));
        let other = Apart::new(requests.of("a", "up"), Kind::Grpc);
        drop(first);
        assert_eq!((all.get(), gauge.get()), (0, 0));
        drop(other);
        assert_eq!(all.get(), 1);
    }

    #[test]
    fn series_are_looked_for_once() {
        let (_, _, requests) = requests(1000);
        let found = Found::default();
        let first = found.of("one", || requests.of("a", "one"));
        let second = found.of("two", || requests.of("a", "two"));
        assert!(Arc::ptr_eq(&first, &found.of("one", || unreachable!())));
        assert!(Arc::ptr_eq(&second, &found.of("two", || unreachable!())));
    }
}
