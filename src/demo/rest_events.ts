import type { EventRow } from "../imports/event_rows.ts";

/** How to reach a running server. */
export interface RestServer {
  readonly url: string;
  readonly adminKey: string;
}

const deadlineMs = 5_000;

/** Whether a Laurel server answers at this address. */
export async function isServerThere(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(1_000) });
    return response.ok && (await response.text()).includes("ready");
  } catch {
    return false;
  }
}

/** Sends one event by REST; returns whether the server recorded it now, for the first time. */
export async function postEvent({ url, adminKey }: RestServer, event: EventRow): Promise<boolean> {
  try {
    const response = await fetch(`${url}/v1/metrics/${event.metricKey}/event`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-API-KEY": adminKey, "Idempotency-Key": event.idempotencyKey },
      body: JSON.stringify({
        user: { id: event.userId },
        value: Number(event.value),
        attributes: event.attributes,
        occurredAt: event.occurredAt,
      }),
      signal: AbortSignal.timeout(deadlineMs),
    });
    return response.status === 201;
  } catch {
    return false;
  }
}
