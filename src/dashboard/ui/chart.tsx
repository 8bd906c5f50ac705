import { useEffect, useId, useRef } from "preact/hooks";
import { day, figure } from "../format.ts";
import { useStore } from "../stores.ts";
import { theme } from "../theme.ts";

/** A line: one value for each date; null where there is none. */
export interface Series {
  readonly label: string;
  readonly values: readonly (number | null)[];
  /** One of the page's colours; the brand's own unless told. */
  readonly color?: "leaf" | "gold" | "muted" | "danger";
  readonly isDashed?: boolean;
}

interface TimeChartProps {
  readonly title: string;
  readonly dates: readonly string[];
  readonly series: readonly Series[];
  readonly height?: number;
}

/** Lines over days, with the same numbers as a table for those who would rather read them. */
export function TimeChart({ title, dates, series, height = 190 }: TimeChartProps) {
  const holder = useRef<HTMLDivElement>(null);
  const id = useId();
  const chosen = useStore(theme);
  const content = JSON.stringify([dates, series]);
  useEffect(() => {
    const element = holder.current;
    if (element === null) return undefined;
    let isOver = false;
    let tidy = (): void => undefined;
    const draw = async (): Promise<void> => {
      const { drawLines } = await import("./lines.ts");
      if (!isOver) tidy = drawLines(element, { dates, series, height });
    };
    void draw();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const redraw = (): void => {
      tidy();
      void draw();
    };
    dark.addEventListener("change", redraw);
    return () => {
      isOver = true;
      dark.removeEventListener("change", redraw);
      tidy();
    };
  }, [content, chosen, height]);
  return (
    <figure class="chart">
      <figcaption id={id}>{title}</figcaption>
      <div class="chart-lines" ref={holder} aria-hidden="true" />
      <details>
        <summary>The numbers</summary>
        <div class="scroll" tabIndex={0} role="region" aria-labelledby={id}>
          <table class="numbers">
            <thead>
              <tr><th scope="col">Day</th>{series.map(({ label }) => <th key={label} scope="col" class="figure">{label}</th>)}</tr>
            </thead>
            <tbody>
              {dates.map((date, index) => (
                <tr key={date}>
                  <th scope="row">{day(date)}</th>
                  {series.map(({ label, values }) => <td key={label} class="figure">{figure(values[index] ?? "–")}</td>)}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </figure>
  );
}
