import { useEffect, useRef, useState } from "preact/hooks";
import { sentenceOf } from "./data.ts";
import { tryKey } from "./api.ts";
import { useTenants } from "./reads.ts";
import { Link, matchPath, navigate, usePath } from "./router.tsx";
import { SignIn } from "./screens/sign_in.tsx";
import { type Screen, screens } from "./screens.ts";
import { type Session, session, signIn, signOut } from "./session.ts";
import { useStore } from "./stores.ts";
import { chooseTheme, theme, type Theme } from "./theme.ts";
import { LaurelMark } from "./ui/laurel.tsx";
import { Empty, Page } from "./ui/page.tsx";

export function App() {
  const current = useStore(session);
  return current === undefined ? <SignIn /> : <Shell key={`${current.key} ${current.tenant}`} current={current} />;
}

function Shell({ current }: { readonly current: Session }) {
  const path = usePath();
  const [isOpen, setIsOpen] = useState(false);
  const menu = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    setIsOpen(false);
  }, [path]);
  useEffect(() => {
    const close = (event: KeyboardEvent): void => {
      if (event.key !== "Escape") return;
      const side = document.getElementById("navigation");
      if (side?.contains(document.activeElement) === true) menu.current?.focus();
      setIsOpen(false);
    };
    addEventListener("keydown", close);
    return () => {
      removeEventListener("keydown", close);
    };
  }, []);
  const found = findScreen(path);
  return (
    <div class="shell">
      <a
        class="skip"
        href="#content"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("content")?.focus();
        }}
      >
        Skip to content
      </a>
      <header class="bar">
        <Link href="/" class="brand"><LaurelMark /> <span>Laurel</span></Link>
        <button
          type="button"
          ref={menu}
          class="button small menu-button"
          aria-expanded={isOpen}
          aria-controls="navigation"
          onClick={() => {
            setIsOpen(!isOpen);
          }}
        >
          Menu
        </button>
      </header>
      <div class={isOpen ? "side open" : "side"} id="navigation">
        <Link href="/" class="brand"><LaurelMark size={34} /> <span>Laurel</span></Link>
        <TenantSwitch current={current} />
        <Navigation path={path} />
        <div class="side-foot">
          <ThemeSwitch />
          <p><a href="/docs">REST documentation</a></p>
          <p>
            <button
              type="button"
              class="link"
              onClick={() => {
                signOut();
              }}
            >
              Sign out
            </button>{" "}
            <span class="muted">({current.key.split(".")[0]})</span>
          </p>
        </div>
      </div>
      <main id="content" tabIndex={-1}>
        {found === undefined ? <Nothing /> : <found.screen.show key={found.screen.path} {...found.params} />}
      </main>
    </div>
  );
}

function findScreen(path: string): { readonly screen: Screen; readonly params: Readonly<Record<string, string>> } | undefined {
  for (const screen of screens) {
    const params = matchPath(screen.path, path);
    if (params !== undefined) return { screen, params };
  }
  return undefined;
}

function Nothing() {
  return (
    <Page title="Nothing here">
      <Empty title="There is no screen at this address.">Go back to the <Link href="/">overview</Link>.</Empty>
    </Page>
  );
}

const groups = ["Points", "People", "Set-up"] as const;

function Navigation({ path }: { readonly path: string }) {
  return (
    <nav aria-label="Screens">
      {groups.map((group) => (
        <div class="nav-group" key={group}>
          <h2>{group}</h2>
          <ul>
            {screens.filter((screen) => screen.group === group && screen.label !== undefined).map((screen) => {
              const isHere = screen.path === "/" ? path === "/" : path === screen.path || path.startsWith(`${screen.path}/`);
              return (
                <li key={screen.path}>
                  <Link href={screen.path} {...(isHere ? { "aria-current": "page" } : {})}>{screen.label}</Link>
                </li>
              );
            })}
          </ul>
        </div>
      ))}
    </nav>
  );
}

function TenantSwitch({ current }: { readonly current: Session }) {
  const { data } = useTenants();
  const [fault, setFault] = useState<string>();
  const tenants = (data ?? []).filter(({ status }) => status === "active");
  if (tenants.length < 2 && current.tenant === "") return null;
  return (
    <div class="tenant-switch">
      <label for="tenant">Tenant</label>
      <select
        id="tenant"
        value={current.tenant === "" ? "default" : current.tenant}
        onChange={(event) => {
          const next = { key: current.key, tenant: event.currentTarget.value };
          tryKey(next).then(
            () => {
              signIn(next);
              navigate("/");
            },
            (error: unknown) => {
              setFault(sentenceOf(error));
            },
          );
        }}
      >
        {tenants.map(({ id, customerId, name }) => (
          <option key={id} value={customerId} selected={customerId === (current.tenant === "" ? "default" : current.tenant)}>
            {name === customerId ? name : `${name} (${customerId})`}
          </option>
        ))}
      </select>
      {fault !== undefined && <p class="fault" role="alert">{fault}</p>}
    </div>
  );
}

const themes: readonly { readonly value: Theme; readonly label: string }[] = [
  { value: "system", label: "System" },
  { value: "light", label: "Light" },
  { value: "dark", label: "Dark" },
];

function ThemeSwitch() {
  const chosen = useStore(theme);
  return (
    <fieldset class="theme-switch">
      <legend class="visually-hidden">Appearance</legend>
      {themes.map(({ value, label }) => (
        <label key={value}>
          <input
            type="radio"
            name="theme"
            checked={chosen === value}
            onChange={() => {
              chooseTheme(value);
            }}
          />
          <span>{label}</span>
        </label>
      ))}
    </fieldset>
  );
}
