//! Plots as SVG, both axes logarithmic.

use std::fmt::Write as _;

pub(crate) struct Plot {
    /// What the axes show.
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) series: Vec<Series>,
}

/// A line through points, from left to right.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Plot {
    pub(crate) fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let (low_x, high_x) = range(all().map(|(x, _)| x));
        let (low_y, high_y) = range(all().map(|(_, y)| y));
        // Whole powers of ten, so that there is something to read off.
        let (low_y, high_y) = (low_y.floor(), high_y.ceil().max(low_y.floor() + 1.0));
        let right =
            |x: f64| LEFT + (x.log10() - low_x) / (high_x - low_x).max(1e-9) * (WIDTH - LEFT - MARGIN);
        let down = |y: f64| MARGIN + (high_y - y.log10()) / (high_y - low_y) * (HEIGHT - MARGIN - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        for power in low_y as i32..=high_y as i32 {
            for step in 1..10 {
                let value = f64::from(step) * 10_f64.powi(power);
                if value.log10() > high_y + 1e-9 {
                    break;
                }
                let (at, colour) = (down(value), if step == 1 { "#bbb" } else { "#eee" });
                line(&mut svg, (LEFT, at), (WIDTH - MARGIN, at), colour);
                if step == 1 || ((high_y - low_y) < 1.5 && (step == 2 || step == 5)) {
                    text(&mut svg, (LEFT - 8.0, at + 4.0), "end", &short(value));
                }
            }
        }
        let mut ticks: Vec<f64> = all().map(|(x, _)| x).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        for tick in ticks {
            line(&mut svg, (right(tick), MARGIN), (right(tick), HEIGHT - BOTTOM), "#eee");
            text(&mut svg, (right(tick), HEIGHT - BOTTOM + 18.0), "middle", &short(tick));
        }
        text(&mut svg, ((LEFT + WIDTH - MARGIN) / 2.0, HEIGHT - 10.0), "middle", &self.x);
        text(&mut svg, (8.0, 16.0), "start", &self.y);
        for (number, (series, colour)) in self.series.iter().zip(COLOURS).enumerate() {
            let points = series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", right(*x), down(*y)));
            let points = points.collect::<Vec<_>>().join(" ");
            writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
            )
            .ok();
            for (x, y) in &series.points {
                let (x, y) = (right(*x), down(*y));
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>").ok();
            }
            let at = WIDTH - MARGIN - 150.0 * (self.series.len() - number) as f64;
            writeln!(svg, "<circle cx=\"{at}\" cy=\"12\" r=\"4\" fill=\"{colour}\"/>").ok();
            text(&mut svg, (at + 9.0, 16.0), "start", series.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The least and the greatest, as powers of ten.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let logs = values.map(f64::log10).filter(|value| value.is_finite());
    let (low, high) =
        logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it), high.max(it)));
    if low > high { (0.0, 1.0) } else { (low, high) }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>")
        .ok();
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, text: &str) {
    let (x, y) = at;
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>").ok();
}

/// 1, 20, 500, 1 k, 20 M.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        it if it >= 1e9 => (it / 1e9, " G"),
        it if it >= 1e6 => (it / 1e6, " M"),
        it if it >= 1e3 => (it / 1e3, " k"),
        it => (it, ""),
    };
    let digits = if value >= 1.0 || value == 0.0 { 0 } else { 1 };
    format!("{value:.digits$}{unit}")
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const MARGIN: f64 = 30.0;
const BOTTOM: f64 = 50.0;
/// Told apart also by those who do not see all colours.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
