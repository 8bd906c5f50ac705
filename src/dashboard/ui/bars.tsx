import type { Ref } from "preact";
import { figure } from "../format.ts";

/** One bar: what it is of, how much, and what to say beside the number. */
export interface Bar {
  readonly label: string;
  readonly value: number;
  readonly note?: string;
}

/** A bar chart that is a table: the numbers are there to read, the bars to compare. */
export function Bars({ caption, head, valueHead, rows }: {
  readonly caption: string;
  readonly head: string;
  readonly valueHead: string;
  readonly rows: readonly Bar[];
}) {
  const most = Math.max(1, ...rows.map(({ value }) => Math.abs(value)));
  return (
    <table class="bars">
      <caption class="visually-hidden">{caption}</caption>
      <thead class="visually-hidden">
        <tr><th scope="col">{head}</th><th scope="col">{valueHead}</th></tr>
      </thead>
      <tbody>
        {rows.map(({ label, value, note = "" }, index) => (
          <tr key={`${index} ${label}`}>
            <th scope="row"><span class="bar-label">{label}</span></th>
            <td>
              <span class="bar" aria-hidden="true"><span class={value < 0 ? "fill negative" : "fill"} ref={wide(Math.abs(value) / most)} /></span>
              <span class="value">{figure(value)}{note !== "" && <small> {note}</small>}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The policy forbids style attributes in markup; setting a property is fine. */
const wide = (share: number): Ref<HTMLElement> => (element) => {
  if (element !== null) element.style.width = `${Math.max(share * 100, share > 0 ? 1.5 : 0)}%`;
};
