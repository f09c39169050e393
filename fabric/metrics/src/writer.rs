//! Metrics in the text format of OpenMetrics 1.0, kind after kind.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use std::fmt;

/// The page that `write` makes of a thing.
pub(crate) fn page_of<T: Clone + fmt::Debug + Send + Sync + 'static>(
    thing: &T,
    write: fn(&mut Writer<'_, '_>, &T) -> fmt::Result,
) -> String {
    let mut registry = Registry::with_prefix("wireonce");
    registry.register_collector(Box::new(Page { thing: thing.clone(), write }));
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = text::encode(&mut page, &registry);
    page
}

#[derive(Debug)]
struct Page<T> {
    thing: T,
    write: fn(&mut Writer<'_, '_>, &T) -> fmt::Result,
}

impl<T: fmt::Debug + Send + Sync + 'static> Collector for Page<T> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.write)(&mut Writer { encoder: &mut encoder }, &self.thing)
    }
}

/// Labels of one sample.
pub(crate) type Labels<'a> = Vec<(&'static str, String)>;

/// Writes one kind of metric after the other.
pub(crate) struct Writer<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

impl Writer<'_, '_> {
    /// Writes a counter with all its samples; nothing if there are none.
    pub(crate) fn counters<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (Labels<'static>, V)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            } else {
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// Writes a gauge with all its samples; nothing if there are none.
    pub(crate) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (Labels<'static>, f64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

/// One label.
pub(crate) fn label(key: &'static str, value: &str) -> (&'static str, String) {
    (key, value.to_owned())
}

/// 1 or 0.
pub(crate) fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}
