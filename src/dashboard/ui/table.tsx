import type { ComponentChildren } from "preact";

/** A column: what it is called and what it shows of a row. */
export interface Column<T> {
  readonly head: string;
  readonly cell: (row: T) => ComponentChildren;
  /** Figures stand right, so that their digits line up. */
  readonly isFigure?: boolean;
  /** What names the row: it becomes the row's header. */
  readonly isName?: boolean;
  /** Buttons: shown last, without a label on phones. */
  readonly isAction?: boolean;
}

interface TableProps<T> {
  /** What the table holds, for screen readers and as a heading of its own. */
  readonly caption: string;
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly keyOf: (row: T) => string;
}

/** A table; on a phone each row is a card that names its values. Roles are given, since the cards' layout would hide them. */
export function Table<T>({ caption, columns, rows, keyOf }: TableProps<T>) {
  return (
    <table class="table" role="table">
      <caption class="visually-hidden">{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map(({ head, isFigure, isAction }) => (
            <th key={head} role="columnheader" scope="col" class={isFigure === true ? "figure" : undefined}>
              {isAction === true ? <span class="visually-hidden">{head}</span> : head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr role="row" key={keyOf(row)}>
            {columns.map(({ head, cell, isFigure, isName, isAction }) => {
              const className = [isFigure === true ? "figure" : "", isAction === true ? "actions" : "", isName === true ? "name" : ""].join(" ").trim();
              const content = cell(row);
              return isName === true ? (
                <th key={head} role="rowheader" scope="row" class={className}>{content}</th>
              ) : (
                <td key={head} role="cell" class={className === "" ? undefined : className} data-head={isAction === true ? undefined : head}>{content}</td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
