//! Pictures of what was measured.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::{Table, file};

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(31, 35, 40);
const GREY: RGBColor = RGBColor(129, 139, 152);
const BLUE: RGBColor = RGBColor(9, 105, 218);
const PALE: RGBColor = RGBColor(175, 184, 193);
const RED: RGBColor = RGBColor(207, 34, 46);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

pub fn all() {
    reads().expect("a plot of reads");
    spikes().expect("a plot of spikes");
    fleet().expect("a plot of the fleet");
    slices().expect("a plot of the fleet's first seconds");
}

fn draw(name: &str, size: (u32, u32), title: &str, with: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn {
    let path = file(&format!("{name}.svg"));
    let area = SVGBackend::new(&path, size).into_drawing_area();
    area.fill(&WHITE)?;
    with(&area.titled(title, (FONT, 17).into_font().color(&INK))?)?;
    area.present()?;
    Ok(())
}

/// One bar for each, the least first, on a logarithmic scale.
fn bars(area: &Area<'_>, mut bars: Vec<(String, f64)>, least: f64, unit: &str) -> Drawn {
    bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = bars.iter().map(|bar| bar.1).fold(least, f64::max) * 4.0;
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(150)
        .build_cartesian_2d((least..most).log_scale(), 0.0..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(PALE.mix(0.5))
        .x_desc(unit)
        .label_style((FONT, 12).into_font().color(&INK))
        .axis_style(GREY)
        .draw()?;
    for (n, (name, value)) in bars.iter().enumerate() {
        let color = match name.as_str() {
            "evertoken" => BLUE,
            name if name.starts_with("limit") => GREY,
            _ => PALE,
        };
        let low = n as f64;
        chart.draw_series([Rectangle::new([(least, low + 0.15), (*value, low + 0.85)], color.filled())])?;
        let text = TextStyle::from((FONT, 13).into_font()).color(&INK);
        let (x, y) = chart.backend_coord(&(least, low + 0.5));
        let [right, left] = [HPos::Right, HPos::Left].map(|side| text.pos(Pos::new(side, VPos::Center)));
        let end = chart.backend_coord(&(*value, low + 0.5));
        let base = area.get_base_pixel();
        area.draw(&Text::new(name.clone(), (x - base.0 - 6, y - base.1), right))?;
        area.draw(&Text::new(figure(*value), (end.0 - base.0 + 5, end.1 - base.1), left))?;
    }
    Ok(())
}

fn figure(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn number(cell: &str) -> f64 {
    cell.parse().unwrap_or(f64::NAN)
}

fn reads() -> Drawn {
    let table = Table::load("reads");
    let alone = table.rows.iter().filter(|row| row[1] == "1");
    let values = alone.map(|row| (row[0].clone(), number(&row[2]))).collect();
    draw("reads", (820, 420), "From a held token to a ready header: nanoseconds, one thread", |area| {
        bars(area, values, 10.0, "ns, logarithmic")
    })
}

fn spikes() -> Drawn {
    let table = Table::load("spikes");
    let values = table.rows.iter().map(|row| (row[0].clone(), number(&row[3]).max(0.1))).collect();
    let title = "The longest wait of any call over ten lives of a token, endpoint 200 ms: milliseconds";
    draw("spikes", (820, 290), title, |area| bars(area, values, 0.1, "ms, logarithmic"))
}

/// Two panels, one above the other, each with a bar for every slice of 100 ms.
fn slices() -> Drawn {
    let table = Table::load("slices");
    let title = "1,000 clients started together, the server down for 4 s: token requests in each 100 ms";
    draw("slices", (820, 420), title, |area| {
        let panels = area.split_evenly((2, 1));
        for (panel, (column, name, color)) in
            panels.iter().zip([(2, "at least 1 s between two attempts", PALE), (1, "as it is", BLUE)])
        {
            let mut chart = ChartBuilder::on(panel)
                .margin(8)
                .caption(name, (FONT, 13).into_font().color(&INK))
                .x_label_area_size(24)
                .y_label_area_size(52)
                .build_cartesian_2d(0.0..8.0, 0.0..1000.0)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(PALE.mix(0.5))
                .y_labels(5)
                .x_label_formatter(&|second| format!("{second:.0} s"))
                .label_style((FONT, 12).into_font().color(&INK))
                .axis_style(GREY)
                .draw()?;
            let bars = table.rows.iter().map(|row| {
                let left = number(&row[0]);
                Rectangle::new([(left + 0.01, 0.0), (left + 0.09, number(&row[column]))], color.filled())
            });
            chart.draw_series(bars)?;
        }
        Ok(())
    })
}

fn fleet() -> Drawn {
    let table = Table::load("fleet");
    let points = |column: usize| -> Vec<(f64, f64)> {
        table.rows.iter().map(|row| (number(&row[0]) / 1440.0, number(&row[column]).max(0.1))).collect()
    };
    let title =
        "10,000 clients started together, tokens of 1 h: requests in the worst minute of ten, over the mean";
    draw("fleet", (820, 360), title, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(32)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..7.0, (0.1..1000.0).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE.mix(0.5))
            .x_desc("days; an outage of 20 minutes after 3½")
            .y_label_formatter(&|value| format!("{value} ×"))
            .label_style((FONT, 12).into_font().color(&INK))
            .axis_style(GREY)
            .draw()?;
        for (column, name, color) in [(2, "without jitter", PALE), (1, "with", BLUE)] {
            chart
                .draw_series(LineSeries::new(points(column), color.stroke_width(1)))?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled()));
        }
        chart
            .draw_series(LineSeries::new([(0.0, 2.5), (7.0, 2.5)], RED.mix(0.6)))?
            .label("2.5 ×")
            .legend(|(x, y)| Rectangle::new([(x, y - 1), (x + 14, y + 1)], RED.mix(0.6).filled()));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.9))
            .border_style(PALE)
            .label_font((FONT, 12).into_font().color(&INK))
            .draw()?;
        Ok(())
    })
}
