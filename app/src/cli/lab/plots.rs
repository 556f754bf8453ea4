//! The figures of studies as diagrams.

use infinity_engine::lab::{
    ClassifierArm, ClassifierReport, CorrectionArm, CorrectionReport, CostReport, GuidanceReport,
    Layout, Likeness, PowersReport, Side, SidesReport, SizeArm, SizesReport, VarietyArm,
    VarietyReport, VocabularyArm, VocabularyReport,
};

use super::super::report::Panel;

/// Names and points.
type Curve = (String, Vec<(f64, f64)>);

/// What a study shows beside its tables.
pub(super) trait Plot {
    /// Its diagrams.
    fn panels(&self) -> Vec<Panel>;
}

/// Values of runs against values of the same runs.
fn pairs(x: &[f32], y: &[f32]) -> Vec<(f64, f64)> {
    let pairs = x.iter().zip(y);
    pairs.map(|(&x, &y)| (f64::from(x), f64::from(y))).collect()
}

fn mean(values: &[f32]) -> f64 {
    f64::from(values.iter().sum::<f32>()) / values.len().max(1) as f64
}

/// All runs of an arm above its place.
fn column(place: f64, values: &[f32]) -> impl Iterator<Item = (f64, f64)> {
    values.iter().map(move |&value| (place, f64::from(value)))
}

impl Plot for PowersReport {
    /// Likeness to a source and to its prompt, and what each scale locks, by scales kept.
    fn panels(&self) -> Vec<Panel> {
        let points = |values: Vec<f32>| -> Vec<(f64, f64)> {
            let values = values.into_iter().enumerate();
            values
                .map(|(kept, value)| (kept as f64, f64::from(value)))
                .collect()
        };
        let of = |value: fn(&Likeness) -> f32| points(self.likeness.iter().map(value).collect());
        let names = self.layout.iter().flat_map(|row| row.of_parent.iter());
        let mut kinds: Vec<&str> = Vec::new();
        for (name, _) in names {
            if !kinds.contains(&name.as_str()) {
                kinds.push(name);
            }
        }
        let locked = |name: &str| -> Curve {
            let value = |row: &Layout| {
                let found = row.of_parent.iter().find(|(own, _)| own == name);
                found.map_or(0.0, |(_, share)| *share)
            };
            (
                name.to_owned(),
                points(self.layout.iter().map(value).collect()),
            )
        };
        vec![
            Panel::lines(
                "like the source (dB) by scales kept",
                vec![(String::new(), of(|row| row.psnr))],
            ),
            Panel::lines(
                "followed, by scales kept of a source",
                vec![
                    ("the prompt".to_owned(), of(|row| row.followed)),
                    ("the source".to_owned(), of(|row| row.of_source)),
                ],
            ),
            Panel::lines(
                "as in the parent, by scales kept",
                kinds.into_iter().map(locked).collect(),
            ),
        ]
    }
}

impl Plot for CorrectionReport {
    fn panels(&self) -> Vec<Panel> {
        let arms = |x: fn(&CorrectionArm) -> &Vec<f32>, y: fn(&CorrectionArm) -> &Vec<f32>| {
            let curve = |arm: &CorrectionArm| (arm.name.clone(), pairs(x(arm), y(arm)));
            self.arms.iter().map(curve).collect::<Vec<_>>()
        };
        vec![
            Panel::dots(
                "attributes found, by loss per bit",
                arms(|arm| &arm.runs.loss, |arm| &arm.runs.found),
            ),
            Panel::dots(
                "attributes found with flips, by recovery in dB",
                arms(|arm| &arm.recovery, |arm| &arm.found_flipped),
            ),
            Panel::dots(
                "attributes found, by Fréchet distance",
                arms(|arm| &arm.frechet, |arm| &arm.runs.found),
            ),
        ]
    }
}

impl Plot for ClassifierReport {
    fn panels(&self) -> Vec<Panel> {
        let name = |arm: &ClassifierArm| format!("{} bits, {}", arm.bits, arm.head);
        let against = |y: fn(&ClassifierArm) -> &Vec<f32>| -> Vec<Curve> {
            let curve = |arm: &ClassifierArm| (name(arm), pairs(&arm.runs.loss, y(arm)));
            self.arms.iter().map(curve).collect()
        };
        vec![
            Panel::dots(
                "attributes found, by loss per bit",
                against(|arm| &arm.runs.found),
            ),
            Panel::dots(
                "seconds of training, by loss per bit",
                against(|arm| &arm.secs),
            ),
        ]
    }
}

impl Plot for VocabularyReport {
    fn panels(&self) -> Vec<Panel> {
        let arms = |y: fn(&VocabularyArm) -> &Vec<f32>| -> Vec<Curve> {
            let points = self
                .arms
                .iter()
                .flat_map(|arm| column(arm.bits as f64, y(arm)));
            vec![(String::new(), points.collect())]
        };
        let cost = |quantiser: &str| -> Curve {
            let own = self.costs.iter().filter(|cost| cost.quantiser == quantiser);
            let points = own.map(|cost| (cost.bits as f64, f64::from(cost.held_mb)));
            (quantiser.to_owned(), points.collect())
        };
        vec![
            Panel::dots("signal to noise in dB, by bits", arms(|arm| &arm.psnr)),
            Panel::dots("read back right, by bits", arms(|arm| &arm.read_back)),
            Panel::lines(
                "MB held by the entropy term, by bits",
                vec![cost("BSQ"), cost("LFQ")],
            ),
        ]
    }
}

impl Plot for SizesReport {
    fn panels(&self) -> Vec<Panel> {
        let name = |arm: &SizeArm| format!("{:.2} M", arm.parameters as f64 / 1e6);
        let by_loss = self
            .arms
            .iter()
            .map(|arm| (name(arm), pairs(&arm.runs.loss, &arm.runs.found)));
        let by_size = self.arms.iter().flat_map(|arm| {
            let place = (arm.parameters as f64 / 1e6).log10();
            column(place, &arm.runs.loss)
        });
        vec![
            Panel::dots("attributes found, by loss per bit", by_loss.collect()),
            Panel::dots(
                "loss per bit, by log₁₀ of millions of parameters",
                vec![(String::new(), by_size.collect())],
            ),
        ]
    }
}

impl Plot for SidesReport {
    fn panels(&self) -> Vec<Panel> {
        let logs = |value: fn(&Side) -> f64| -> Vec<(f64, f64)> {
            let sides = self.sides.iter();
            sides
                .map(|side| (f64::from(side.px).log2(), value(side).log2()))
                .collect()
        };
        let secs = self.sides.iter().flat_map(|side| {
            let logs: Vec<f32> = side.secs.iter().map(|secs| secs.log2()).collect();
            column(f64::from(side.px).log2(), &logs).collect::<Vec<_>>()
        });
        vec![
            Panel::lines(
                "log₂ of 10⁹ multiplications, by log₂ of the side",
                vec![
                    ("in scales".to_owned(), logs(|side| side.gmul)),
                    (
                        "token after token".to_owned(),
                        logs(|side| side.raster_gmul),
                    ),
                    ("all anew".to_owned(), logs(|side| side.raster_anew_gmul)),
                ],
            ),
            Panel::dots(
                "log₂ of seconds, by log₂ of the side",
                vec![(String::new(), secs.collect())],
            ),
        ]
    }
}

impl Plot for VarietyReport {
    fn panels(&self) -> Vec<Panel> {
        let curve = |arm: &VarietyArm| (arm.name.clone(), pairs(&arm.variety, &arm.followed));
        vec![Panel::dots(
            "followed, by variety as a share of the painter's",
            self.arms.iter().map(curve).collect(),
        )]
    }
}

impl Plot for GuidanceReport {
    fn panels(&self) -> Vec<Panel> {
        let rows = || self.rows.iter().map(|row| (row.off as f64, row));
        let all = rows().flat_map(|(off, row)| column(off, &row.followed));
        let psnr = rows().skip(1).map(|(off, row)| (off, mean(&row.psnr)));
        let ms = rows().map(|(off, row)| (off, mean(&row.ms)));
        let one = |points: Vec<(f64, f64)>| vec![(String::new(), points)];
        vec![
            Panel::dots(
                "followed, by last scales without guidance",
                one(all.collect()),
            ),
            Panel::lines("like the guided picture, dB", one(psnr.collect())),
            Panel::lines("ms", one(ms.collect())),
        ]
    }
}

impl Plot for CostReport {
    fn panels(&self) -> Vec<Panel> {
        let mut counts: Vec<usize> = self.drafts.iter().map(|row| row.count).collect();
        counts.sort_unstable();
        counts.dedup();
        let curve = |&count: &usize| -> Curve {
            let own = self.drafts.iter().filter(|row| row.count == count);
            let points = own.map(|row| (row.scales as f64, f64::from(row.pictures)));
            (format!("{count} drafts"), points.collect())
        };
        vec![Panel::lines(
            "time in pictures, by scales of a draft",
            counts.iter().map(curve).collect(),
        )]
    }
}
