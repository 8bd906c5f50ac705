import autocannon from "autocannon";

/** What one run of autocannon is given. */
export interface HttpLoad {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** The next request: a POST with a body, or a GET of a path. */
  readonly next: () => { readonly body: unknown } | { readonly path: string };
}

const warmUpSeconds = 2;

/** Sends requests on so many connections for so many seconds, after a warm-up, and returns answers per second. Throws when one was not 2xx. */
export async function runAutocannon(load: HttpLoad): Promise<number> {
  const { url, connections, seconds, headers = {}, next } = load;
  const send = async (duration: number): Promise<number> => {
    const result = await autocannon({
      url,
      connections,
      duration,
      headers: { "content-type": "application/json", ...headers },
      requests: [
        {
          setupRequest: (request) => {
            const given = next();
            return "path" in given
              ? { ...request, method: "GET", path: given.path }
              : { ...request, method: "POST", body: JSON.stringify(given.body) };
          },
        },
      ],
    });
    const failed = result.errors + result.timeouts + result.non2xx;
    if (failed > 0) throw new Error(`${failed} of ${result.requests.total} requests to ${url} failed`);
    return result.requests.total / result.duration;
  };
  await send(warmUpSeconds);
  return send(seconds);
}

/** A whole number from `first` to `last`, each as likely as the next. */
export function randomNumber(first: number, last: number): number {
  return first + Math.floor(Math.random() * (last - first + 1));
}
