// Loading: the balance, which is polled, and what the sections show, which loads again whenever credits have moved.
import { useCallback, useEffect, useState } from './preact.js';

/** The pause after a change, or after the tab becomes visible. It doubles up to the longest: some 45 calls in a quiet hour. */
const FIRST_PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 90_000;
/** The table's stream updates the usage shortly after the balance, so the sections load once more after this time. */
const FOLLOWS_AFTER_MS = 1500;

/**
 * Polls the balance while the page is visible. `moves` increases whenever the sections have to load again, `at` is when
 * the balance was read, `look` reads it at once, and `changed` lets everything load again after an order.
 */
export function useBalance(api) {
  const [seen, setSeen] = useState({ balance: null, problem: null, moves: 0, at: null });
  const [look, setLook] = useState(() => () => {});
  useEffect(() => {
    let timer, follow, version, ended, pause = FIRST_PAUSE_MS;
    const read = async () => {
      clearTimeout(timer);
      if (document.hidden || ended) return;
      try {
        const balance = await api.get('/balance');
        const first = version === undefined;
        const moved = balance.version !== version;
        version = balance.version;
        setSeen(was => ({ balance, problem: null, moves: was.moves + (moved && !first), at: new Date().toISOString() }));
        if (moved) {
          pause = FIRST_PAUSE_MS;
          clearTimeout(follow);
          if (!first) follow = setTimeout(() => setSeen(was => ({ ...was, moves: was.moves + 1 })), FOLLOWS_AFTER_MS);
        }
      } catch (problem) {
        setSeen(was => ({ ...was, problem }));
        if (problem.status >= 400 && problem.status < 500 && problem.status !== 429) return;
      }
      timer = setTimeout(read, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    };
    const atOnce = () => {
      pause = FIRST_PAUSE_MS;
      read();
    };
    read();
    setLook(() => atOnce);
    const events = [[document, 'visibilitychange'], [window, 'online'], [window, 'ai-credits:session']];
    for (const [target, name] of events) target.addEventListener(name, atOnce);
    return () => {
      ended = true;
      clearTimeout(timer);
      clearTimeout(follow);
      for (const [target, name] of events) target.removeEventListener(name, atOnce);
    };
  }, [api]);
  const changed = useCallback(() => {
    setSeen(was => ({ ...was, moves: was.moves + 1 }));
    look();
  }, [look]);
  return { ...seen, look, changed };
}

/** Loads a path of the workspace, or nothing if it is null. The previous value of the same path stays until the next. */
export function useResponse(app, path) {
  return useLoaded(() => app.api.cached(path, app.moves), path, app.moves, () => app.api.forget(path));
}

/** Loads what `key` names, and again when `moves` changes. Nothing if the key is null. */
export function useLoaded(load, key, moves, forget) {
  const [state, setState] = useState({ key: undefined, value: null, problem: null });
  const [again, setAgain] = useState(0);
  useEffect(() => {
    if (key == null) return undefined;
    let current = true;
    const done = (value, problem) => current && setState(was => ({ key, value: value ?? (was.key === key ? was.value : null), problem }));
    load().then(value => done(value, null), problem => done(null, problem));
    return () => { current = false; };
  }, [key, moves, again]);
  const reload = useCallback(() => {
    forget?.();
    setAgain(count => count + 1);
  }, [key]);
  const current = key != null && state.key === key;
  return { value: current ? state.value : null, problem: current ? state.problem : null, reload };
}
