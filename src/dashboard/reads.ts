import { ask, askAll, call } from "./api.ts";
import { type Reading, useReading } from "./data.ts";
import * as documents from "./documents.ts";
import type { AchievementRow, AttributeRow, MetricRow, System, SystemRow, Tenant } from "./records.ts";

/** What several screens read. */

export const useMetrics = (): Reading<MetricRow[]> => useReading(() => askAll<MetricRow>(documents.metrics), ["metrics"]);

export const useAttributes = (): Reading<AttributeRow[]> => useReading(() => askAll<AttributeRow>(documents.attributes), ["attributes"]);

export const useAchievements = (): Reading<AchievementRow[]> =>
  useReading(
    async () => (await askAll<AchievementRow>(documents.achievements)).filter(({ status }) => status !== "archived"),
    ["achievements"],
  );

export const useSystems = (): Reading<SystemRow[]> => useReading(() => askAll<SystemRow>(documents.pointsSystems), ["systems"]);

/** One system with everything in it; undefined inside when there is none of that key. */
export const useSystem = (key: string): Reading<{ readonly system: System | undefined }> =>
  useReading(async () => {
    const { pointsSystems } = await ask<{ pointsSystems: { nodes: System[] } }>(documents.pointsSystem, { key });
    return { system: pointsSystems.nodes[0] };
  }, ["system", key]);

export const useTenants = (): Reading<Tenant[]> =>
  useReading(() => callAll<Tenant>("/admin/v1/tenants"), ["tenants"]);

/** Reads a list of the admin API, page by page, as far as anybody would look. */
export async function callAll<T>(path: string, most = 500): Promise<T[]> {
  const rows: T[] = [];
  for (;;) {
    const page = await call<T[]>("GET", `${path}${path.includes("?") ? "&" : "?"}limit=100&skip=${rows.length}`);
    rows.push(...page);
    if (page.length < 100 || rows.length >= most) return rows;
  }
}
