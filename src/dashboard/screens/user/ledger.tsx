import { useEffect, useState } from "preact/hooks";
import { call } from "../../api.ts";
import { useReading } from "../../data.ts";
import { figure, moment, signed } from "../../format.ts";
import type { UserAwards } from "../../records.ts";
import { TimeChart } from "../../ui/chart.tsx";
import { Empty, Read } from "../../ui/page.tsx";
import { Table } from "../../ui/table.tsx";

const pageSize = 20;
const daysShown = 30;

/** Every change of a user's total in a system, explained. Reads anew when the total changes. */
export function Ledger({ userId, systemKey, total }: { readonly userId: string; readonly systemKey: string; readonly total: string }) {
  const path = `/v1/users/${encodeURIComponent(userId)}/points/${encodeURIComponent(systemKey)}`;
  const [pages, setPages] = useState(1);
  useEffect(() => {
    setPages(1);
  }, [systemKey]);
  const awards = useReading(async () => {
    const rows: UserAwards["awards"] = [];
    let cursor: string | null = null;
    for (let page = 0; page < pages; page += 1) {
      const found: UserAwards = await call("GET", `${path}/awards?limit=${pageSize}${cursor === null ? "" : `&cursor=${cursor}`}`);
      rows.push(...found.awards);
      cursor = found.nextCursor;
      if (cursor === null) break;
    }
    return { rows, hasMore: cursor !== null };
  }, [path, total, pages]);
  const history = useReading(() => call<{ date: string; total: number; change: number }[]>("GET", `${path}/event-summary?${lastDays()}`), ["history", path, total]);
  return (
    <>
      <Read reading={history}>
        {(points) => (
          <TimeChart
            title={`Total in ${systemKey}, last ${daysShown} days`}
            dates={points.map(({ date }) => date)}
            series={[{ label: "Total", values: points.map((point) => point.total) }]}
          />
        )}
      </Read>
      <Read reading={awards}>
        {({ rows, hasMore }) => rows.length === 0 ? <Empty title="No points yet.">Every change of the total will be listed here with its reason.</Empty> : (
          <>
            <Table
              caption={`Awards in ${systemKey}, the latest first`}
              rows={rows}
              keyOf={({ id }) => id}
              columns={[
                { head: "When", cell: ({ date }) => moment(date) },
                { head: "Why", isName: true, cell: ({ explanation }) => <span class="rule">{explanation.sentence}</span> },
                { head: "Points", isFigure: true, cell: ({ awarded }) => <b class={awarded < 0 ? "negative" : "positive"}>{signed(awarded)}</b> },
                { head: "Total", isFigure: true, cell: (award) => figure(award.total) },
              ]}
            />
            {hasMore && <p><button type="button" class="button" onClick={() => {
              setPages(pages + 1);
            }}>Show more</button></p>}
          </>
        )}
      </Read>
    </>
  );
}

function lastDays(): string {
  const end = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
  const start = new Date(Date.now() - (daysShown - 1) * 86_400_000).toISOString().slice(0, 10);
  return `aggregation=daily&startDate=${start}&endDate=${end}`;
}
