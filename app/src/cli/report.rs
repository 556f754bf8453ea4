//! `infinity train report`: the curves of a run as one picture.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use infinity_engine::train::report::{LogLine, read_log};
use infinity_engine::weights::atomic_write;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::CliError;

/// Draw the curves of a run: loss, quality, gradient norm, learning rate and speed, per scale where there are scales.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  infinity train report runs/vae\n  infinity train report runs/transformer --out curves.png"
)]
pub(super) struct Args {
    /// Folder of the run.
    run: PathBuf,
    /// Where to: an .svg or a .png file [default: report.svg in the folder of the run].
    #[arg(long, short)]
    out: Option<PathBuf>,
}

const SIZE_PX: (u32, u32) = (1200, 720);
const PANELS_IN_A_ROW: usize = 3;

/// One small diagram.
#[derive(Debug, PartialEq)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// Names and points; a single curve needs no name.
    pub(super) curves: Vec<(String, Vec<(f64, f64)>)>,
    /// Whether points stand for themselves, without a line from one to the next.
    pub(super) dots: bool,
}

impl Panel {
    /// A diagram of lines.
    pub(super) fn lines(title: &'static str, curves: Vec<(String, Vec<(f64, f64)>)>) -> Self {
        Self {
            title,
            curves,
            dots: false,
        }
    }

    /// A diagram of dots.
    pub(super) fn dots(title: &'static str, curves: Vec<(String, Vec<(f64, f64)>)>) -> Self {
        Self {
            dots: true,
            ..Self::lines(title, curves)
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| args.run.join("report.svg"));
    let lines = read_log(&args.run.join("log.jsonl"))?;
    let panels = panels(&lines);
    if panels.is_empty() {
        return Err(CliError::failed(format!(
            "There are no updates in {:?} yet.",
            args.run.join("log.jsonl")
        )));
    }
    save(&panels, &out)?;
    println!("{}", out.display());
    Ok(())
}

/// Draws `panels` into a file whose ending says the form.
pub(super) fn save(panels: &[Panel], out: &Path) -> Result<(), CliError> {
    match out.extension().and_then(|end| end.to_str()) {
        Some("png") => save_png(panels, out),
        Some("svg") => {
            let mut text = String::new();
            let area = SVGBackend::with_string(&mut text, SIZE_PX).into_drawing_area();
            draw(&area, panels)?;
            drop(area);
            atomic_write(out, text.as_bytes())?;
            Ok(())
        }
        _ => Err(CliError::Usage(format!(
            "{out:?}: use a name that ends in .svg or .png"
        ))),
    }
}

fn save_png(panels: &[Panel], out: &Path) -> Result<(), CliError> {
    let (width, height) = SIZE_PX;
    let mut pixels = vec![255; (3 * width * height) as usize];
    draw(
        &BitMapBackend::with_buffer(&mut pixels, SIZE_PX).into_drawing_area(),
        panels,
    )?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| anyhow!("a picture of no size"))?
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|error| anyhow!("writing {}: {error}", out.display()))?;
    atomic_write(out, bytes.get_ref())?;
    Ok(())
}

/// The diagrams that the log has numbers for; none without lines.
fn panels(lines: &[LogLine]) -> Vec<Panel> {
    let one = |title: &'static str, value: &dyn Fn(&LogLine) -> Option<f32>| {
        Panel::lines(title, vec![(String::new(), points(lines, value))])
    };
    let by_scale = |title: &'static str, row: fn(&LogLine) -> &[f32]| {
        let scales = lines.iter().map(|line| row(line).len()).max().unwrap_or(0);
        let curve = |scale: usize| {
            let name = format!("scale {}", scale + 1);
            (name, points(lines, &|line| row(line).get(scale).copied()))
        };
        Panel::lines(title, (0..scales).map(curve).collect())
    };
    let all = [
        one("loss", &|line| Some(line.loss)),
        one("signal to noise, dB", &|line| line.psnr),
        by_scale("bits right", |line| &line.bit_accuracy),
        by_scale("loss per bit", |line| &line.scale_loss),
        one("gradient norm", &|line| Some(line.gradient_norm)),
        one("learning rate", &|line| Some(line.learning_rate)),
        one("pictures per second", &|line| Some(line.pictures_per_sec)),
    ];
    let has_points = |panel: &Panel| panel.curves.iter().any(|(_, points)| !points.is_empty());
    all.into_iter().filter(has_points).collect()
}

fn points(lines: &[LogLine], value: &dyn Fn(&LogLine) -> Option<f32>) -> Vec<(f64, f64)> {
    let point = |line: &LogLine| Some((line.step as f64, f64::from(value(line)?)));
    lines.iter().filter_map(point).collect()
}

/// From the least to the largest value, never empty.
fn reach(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    if least < most {
        least..most
    } else {
        least - 0.5..least + 0.5
    }
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panels: &[Panel]) -> Result<(), CliError> {
    register_font(
        "sans-serif",
        FontStyle::Normal,
        epaint_default_fonts::UBUNTU_LIGHT,
    )
    .map_err(|_invalid| anyhow!("the letters of the curves cannot be read"))?;
    draw_panels(area, panels).map_err(|error| anyhow!("drawing the curves: {error}"))?;
    Ok(())
}

fn draw_panels<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    panels: &[Panel],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let columns = panels.len().clamp(1, PANELS_IN_A_ROW);
    let cells = area.split_evenly((panels.len().div_ceil(columns), columns));
    for (panel, cell) in panels.iter().zip(&cells) {
        let all = || panel.curves.iter().flat_map(|(_, points)| points);
        let steps = reach(all().map(|point| point.0));
        let values = reach(all().map(|point| point.1));
        let mut chart = ChartBuilder::on(cell)
            .caption(panel.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(60)
            .build_cartesian_2d(steps, values)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(5)
            .y_labels(6)
            .x_label_formatter(&|step| short_place(*step))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for (index, (name, points)) in panel.curves.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let points = points.iter().copied();
            let curve = if panel.dots {
                chart.draw_series(points.map(|at| Circle::new(at, 4, colour.filled())))?
            } else {
                chart.draw_series(LineSeries::new(points, colour.stroke_width(1)))?
            };
            if !name.is_empty() {
                curve.label(name.as_str()).legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 12, y)], colour.stroke_width(3))
                });
            }
        }
        if panel.curves.len() > 1 {
            chart
                .configure_series_labels()
                .background_style(WHITE.mix(0.7))
                .draw()?;
        }
    }
    area.present()
}

/// A number of the axis below: whole where it is.
fn short_place(value: f64) -> String {
    if (value - value.round()).abs() < 1e-9 {
        // Not as -0.
        format!("{:.0}", value.round() + 0.0)
    } else {
        short(value)
    }
}

/// A number in few characters.
fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && size < 0.01 {
        format!("{value:.1e}")
    } else if size < 10.0 {
        format!("{value:.2}")
    } else if size < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::{LogLine, panels, reach, short, short_place};

    #[test]
    fn panels_follow_the_log() {
        assert!(panels(&[]).is_empty());
        let line = |step: u64| LogLine {
            step,
            psnr: Some(20.0),
            ..LogLine::default()
        };
        let titles = |lines: &[LogLine]| -> Vec<&str> {
            panels(lines).iter().map(|panel| panel.title).collect()
        };
        let tokenizer = titles(&[line(1), line(2)]);
        assert!(tokenizer.contains(&"signal to noise, dB") && !tokenizer.contains(&"bits right"));
        let more = LogLine {
            psnr: None,
            bit_accuracy: vec![0.5, 0.6],
            ..line(3)
        };
        let panels = panels(&[more.clone(), more]);
        let bits = panels
            .iter()
            .find(|panel| panel.title == "bits right")
            .unwrap();
        assert_eq!(bits.curves.len(), 2);
        assert_eq!(bits.curves[1].0, "scale 2");
    }

    #[test]
    fn a_flat_curve_has_room() {
        assert_eq!(reach([3.0, 3.0].into_iter()), 2.5..3.5);
        assert_eq!(reach([3.0, 5.0].into_iter()), 3.0..5.0);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.002, 0.5, 14.25, 670.2].map(short),
            ["0.00", "2.0e-3", "0.50", "14.2", "670"]
        );
        assert_eq!([3.0, -1e-12, 0.5].map(short_place), ["3", "0", "0.50"]);
    }
}
