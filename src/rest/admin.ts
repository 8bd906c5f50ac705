import { apiKeyOperations } from "./admin/api_keys.ts";
import { configurationOperations } from "./admin/configuration.ts";
import { batchEventOperations } from "./admin/events.ts";
import { insightOperations } from "./admin/insight.ts";
import { settingsOperations } from "./admin/settings.ts";
import { adminUserOperations } from "./admin/users.ts";
import { webhookOperations } from "./admin/webhooks.ts";
import type { Operation } from "./operations.ts";

/** The admin API's operations. Addresses in full come before those with parameters that would match them. */
export const adminOperations: readonly Operation[] = [
  ...batchEventOperations, ...configurationOperations, ...apiKeyOperations, ...insightOperations, ...settingsOperations, ...adminUserOperations,
  ...webhookOperations,
];
