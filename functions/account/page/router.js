// The tabs and what they show, by the path of the address's fragment: `#/usage?month=2026-11&by=workflow`.
import { useEffect, useState } from './preact.js';
import { readFragment } from './session.js';

export function useRoute() {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const follow = () => setRoute(read());
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  return route;
}

function read() {
  const { path, given } = readFragment();
  const [tab = '', ...rest] = path.split('/').filter(Boolean);
  return { tab: tab || 'overview', rest, query: given };
}

/** Returns the address of a path within the page, with the session's parameters and those of the view. */
export function linkTo(session, path, view = {}) {
  const query = session.kept();
  for (const [name, value] of Object.entries(view)) if (value != null && value !== '') query.set(name, value);
  return `#/${path}${query.size ? `?${query}` : ''}`;
}
