import { useSystem } from "../reads.ts";
import type { System } from "../records.ts";
import { addressOf, Link } from "../router.tsx";
import type { ScreenProps } from "../screens.ts";
import { Empty, Page, Read, Tabs } from "../ui/page.tsx";
import { SystemAnalytics } from "./points_system/analytics.tsx";
import { SystemBoosts } from "./points_system/boosts.tsx";
import { SystemLevels } from "./points_system/levels.tsx";
import { SystemOverview } from "./points_system/overview.tsx";
import { SystemPreview } from "./points_system/preview.tsx";
import { SystemSettings } from "./points_system/settings.tsx";
import { SystemTriggers } from "./points_system/triggers.tsx";

/** The parts of a points system, each a file in points_system/ and a line here. */
const tabs = [
  { key: "", label: "Overview", show: SystemOverview },
  { key: "triggers", label: "Triggers", show: SystemTriggers },
  { key: "boosts", label: "Boosts", show: SystemBoosts },
  { key: "levels", label: "Levels", show: SystemLevels },
  { key: "analytics", label: "Analytics", show: SystemAnalytics },
  { key: "preview", label: "Preview", show: SystemPreview },
  { key: "settings", label: "Settings", show: SystemSettings },
] as const;

/** One points system. */
export function PointsSystem({ key = "", tab = "" }: ScreenProps) {
  const reading = useSystem(key);
  const system = reading.data?.system;
  return (
    <Page title={system?.name ?? key} lead={<SystemLead system={system} />} trail={[{ label: "Points systems", href: "/systems" }]}>
      <Tabs
        label={`Parts of ${system?.name ?? key}`}
        current={tab}
        tabs={tabs.map((part) => ({ ...part, href: part.key === "" ? addressOf("systems", key) : addressOf("systems", key, part.key) }))}
      />
      <Read reading={reading}>
        {({ system: found }) => {
          const part = tabs.find((candidate) => candidate.key === tab);
          if (found === undefined || part === undefined) {
            return <Empty title={found === undefined ? `There is no points system ${key}.` : "There is nothing here."}>See <Link href="/systems">all points systems</Link>.</Empty>;
          }
          return <part.show system={found} />;
        }}
      </Read>
    </Page>
  );
}

function SystemLead({ system }: { readonly system: System | undefined }) {
  if (system === undefined) return null;
  return <><code>{system.key}</code>{system.description === null ? "" : ` · ${system.description}`}</>;
}
