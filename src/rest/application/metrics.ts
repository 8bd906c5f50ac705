import { z } from "zod";
import { eventSummaryAnswer, userMetricAnswer } from "../answers.ts";
import { claimed, defineOperation, type Operation } from "../operations.ts";

const metricsStatement = claimed("user_metric_totals", "laurel.user_metric_totals($3)");
const metricStatement = claimed("user_metric_total", "laurel.user_metric_total($3, $4)");
const summaryStatement = claimed(
  "metric_event_summary",
  "laurel.metric_event_summary($3, $4, $5, $6::date, $7::date)",
);

/** The parameters of both event summaries (rule RP2); which ranges are fine is the database's to say. */
export const summaryQuery = z.object({
  aggregation: z.enum(["daily", "weekly", "monthly"]),
  startDate: z.iso.date(),
  endDate: z.iso.date(),
});

const common = { api: "application", tag: "Metrics", method: "get", refusals: [403, 404] } as const;

/** A user's metrics. */
export const metricOperations: readonly Operation[] = [
  defineOperation({
    ...common,
    id: "users_all_metrics",
    summary: "A user's totals on all metrics.",
    path: "/users/:id/metrics",
    answers: { 200: z.array(userMetricAnswer) },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(metricsStatement, [params["id"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_single_metric",
    summary: "A user's total on one metric.",
    path: "/users/:id/metrics/:key",
    answers: { 200: userMetricAnswer },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(metricStatement, [params["key"], params["id"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_metric_event_summary",
    summary: "A user's total on a metric over time: an entry for every day, week (from Sunday) or month that touches the dates.",
    path: "/users/:id/metrics/:key/event-summary",
    query: summaryQuery,
    answers: { 200: eventSummaryAnswer },
    answer: async ({ params, query: { aggregation, startDate, endDate }, run }) => {
      const { body = "" } = await run(summaryStatement, [params["key"], params["id"], aggregation, startDate, endDate]);
      return { status: 200, body };
    },
  }),
];
