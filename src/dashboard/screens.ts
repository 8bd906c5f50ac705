import type { FunctionComponent } from "preact";
import { Achievements } from "./screens/achievements.tsx";
import { ApiKeys } from "./screens/api_keys.tsx";
import { Attributes } from "./screens/attributes.tsx";
import { AuditLog } from "./screens/audit_log.tsx";
import { Metrics } from "./screens/metrics.tsx";
import { Overview } from "./screens/overview.tsx";
import { PointsSystem } from "./screens/points_system.tsx";
import { PointsSystems } from "./screens/points_systems.tsx";
import { Tenants } from "./screens/tenants.tsx";
import { UserScreen } from "./screens/user.tsx";
import { Users } from "./screens/users.tsx";

/** What a screen gets: the parameters of its address. */
export type ScreenProps = Readonly<Record<string, string | undefined>>;

/** One screen. Those with a label are in the navigation, under their group. */
export interface Screen {
  /** As the router reads it: `/users/:id`, `/systems/:key/:tab?`. */
  readonly path: string;
  readonly group: "Points" | "People" | "Set-up";
  readonly label?: string;
  readonly show: FunctionComponent<ScreenProps>;
}

/** Every screen, in the navigation's order. A new one is a file in screens/ and a line here. */
export const screens: readonly Screen[] = [
  { path: "/", group: "Points", label: "Overview", show: Overview },
  { path: "/systems", group: "Points", label: "Points systems", show: PointsSystems },
  { path: "/systems/:key/:tab?", group: "Points", show: PointsSystem },
  { path: "/achievements", group: "Points", label: "Achievements", show: Achievements },
  { path: "/users", group: "People", label: "Users", show: Users },
  { path: "/users/:id", group: "People", show: UserScreen },
  { path: "/metrics", group: "Set-up", label: "Metrics", show: Metrics },
  { path: "/attributes", group: "Set-up", label: "Attributes", show: Attributes },
  { path: "/keys", group: "Set-up", label: "API keys", show: ApiKeys },
  { path: "/tenants", group: "Set-up", label: "Tenants", show: Tenants },
  { path: "/audit-log", group: "Set-up", label: "Audit log", show: AuditLog },
];
