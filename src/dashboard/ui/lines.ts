import UPlot from "uplot";
import type { Series } from "./chart.tsx";

/** Draws lines into an element as wide as it is, and answers what takes them away. Colours are the page's own. */
export function drawLines(
  element: HTMLElement,
  { dates, series, height }: { readonly dates: readonly string[]; readonly series: readonly Series[]; readonly height: number },
): () => void {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const axis = { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const plot = new UPlot(
    {
      width: Math.max(element.clientWidth, 200),
      height,
      tzDate: (seconds) => UPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { y: false, points: { size: 7 } },
      legend: { show: series.length > 1 },
      scales: { y: { range: (_plot, least, most) => [Math.min(0, least), Math.max(most * 1.08, 1)] } },
      axes: [
        { ...axis, grid: { show: false }, incrs: stepsOfDays, values: (_plot, ticks) => ticks.map((seconds) => shortDay.format(seconds * 1000)) },
        { ...axis, size: 56, values: (_plot, ticks) => ticks.map((tick) => shortened(tick)) },
      ],
      series: [
        { label: "Day", value: "{YYYY}-{MM}-{DD}" },
        ...series.map(({ label, color: name = "leaf", isDashed = false }) => ({
          label,
          stroke: color(name),
          width: 2,
          points: { show: dates.length < 2 },
          ...(isDashed ? { dash: [5, 5] } : {}),
          ...(series.length === 1 ? { fill: color("leaf-wash") } : {}),
        })),
      ],
    },
    [dates.map((date) => Date.parse(`${date.slice(0, 10)}T00:00:00Z`) / 1000), ...series.map(({ values }) => [...values])],
    element,
  );
  const observer = new ResizeObserver(() => {
    plot.setSize({ width: Math.max(element.clientWidth, 200), height });
  });
  observer.observe(element);
  return () => {
    observer.disconnect();
    plot.destroy();
  };
}

/** Seconds between two dates of the axis: whole days. */
const stepsOfDays = [1, 2, 4, 7, 14, 28, 56, 91, 182, 365].map((days) => days * 86_400);
const shortDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const compact = new Intl.NumberFormat("en", { notation: "compact" });
const shortened = (value: number): string => compact.format(value);
