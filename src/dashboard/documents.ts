/** Every GraphQL document the dashboard sends. A test holds each against the schema and its limits. */

const triggerFields = `
  id updatedAt type status points metricThreshold streakLength timeUnit timeInterval blockIfOutOfPoints
  userAttributes eventAttributes metricId achievementId
  metric { key name units } achievement { name }`;

export const pointsSystems = `query PointsSystems($after: Cursor) {
  pointsSystems(first: 50, after: $after, filter: {archivedAt: {isNull: true}}) {
    pageInfo { hasNextPage endCursor }
    nodes {
      id key name description maxPoints
      triggers(first: 50, filter: {status: {in: [active, inactive]}}) { nodes { status } }
      boosts(first: 50, filter: {archivedAt: {isNull: true}}) { nodes { isActive } }
      levels(first: 50) { nodes { key } }
    }
  }
}`;

export const pointsSystem = `query PointsSystem($key: Key!) {
  pointsSystems(first: 1, filter: {key: {equalTo: $key}, archivedAt: {isNull: true}}) {
    nodes {
      id updatedAt key name description badgeUrl maxPoints
      triggers(first: 100, filter: {status: {in: [active, inactive]}}) { nodes { ${triggerFields} } }
      boosts(first: 100, filter: {archivedAt: {isNull: true}}) {
        nodes { id updatedAt name isActive multiplier rounding startsOn endsOn userId userAttributes }
      }
      levels(first: 100, orderBy: [POINTS_ASC]) { nodes { id updatedAt key name description badgeUrl points } }
    }
  }
}`;

export const metrics = `query Metrics($after: Cursor) {
  metrics(first: 100, after: $after, filter: {archivedAt: {isNull: true}}) {
    pageInfo { hasNextPage endCursor }
    nodes { id updatedAt key name unitType units pointsTriggers(first: 50, filter: {status: {in: [active, inactive]}}) { nodes { status system { key name } } } }
  }
}`;

export const attributes = `query Attributes($after: Cursor) {
  attributes(first: 100, after: $after) { pageInfo { hasNextPage endCursor } nodes { id updatedAt key name type } }
}`;

export const achievements = `query Achievements($after: Cursor) {
  achievements(first: 100, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes {
      id updatedAt key name description badgeUrl kind status metricId metricValue streakLength years prerequisiteIds
      userAttributes eventAttributes metric { key name units }
    }
  }
}`;

export const createPointsBoost = `mutation CreatePointsBoost($boost: PointsBoostInput!) {
  createPointsBoost(input: {pointsBoost: $boost}) { pointsBoost { id } }
}`;

export const updatePointsBoost = `mutation UpdatePointsBoost($id: UUID!, $patch: PointsBoostPatch!) {
  updatePointsBoost(input: {id: $id, patch: $patch}) { pointsBoost { id } }
}`;

export const users = `query Users($search: String, $attributes: JSON, $after: Cursor) {
  users: findUsers(search: $search, attributes: $attributes, first: 25, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes { id name email tz attributes createdAt balances(first: 20) { nodes { systemKey total level } } }
  }
}`;

export const userEvents = `query UserEvents($id: UserId!, $text: String!) {
  events: latestEvents(most: 20, userId: $text) { nodes { id metricKey value attributes occurredAt idempotencyKey } }
  user(id: $id) {
    metrics(first: 100) { nodes { metricKey total peak metric { name units } } }
    balances(first: 100) { nodes { systemKey total level lastSequence } }
  }
}`;

export const recentEvents = `query RecentEvents {
  latestEvents(most: 8) { nodes { id metricKey userId value occurredAt } }
  metricEvents(first: 1) { nodes { id } }
}`;

export const userBalances = `subscription UserBalances($userId: String!) {
  userBalances(userId: $userId) { systemKey total level lastSequence }
}`;
