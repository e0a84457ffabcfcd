use super::output;
use crate::cli::failures::Shown;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::migrate::{RECIPE_MISSING, RecipeSet};

pub(super) async fn list(site: &Site, json: bool) -> Result<Exit, Shown> {
    let recipes = RecipeSet::load(site.config.recipes.as_deref()).map_err(Shown::of)?;
    let journal = site.journal().await.map_err(Shown::of)?;
    let entries = journal.list().await.map_err(Shown::of)?;
    let mut rows = Vec::new();
    let mut shown = Vec::new();
    for (recipe, path) in recipes.iter() {
        let entry = entries.iter().find(|entry| entry.name == recipe.name.as_str());
        let state = entry.map_or("not_begun", |entry| entry.state.as_str());
        let error = entry.and_then(|entry| entry.error.as_deref());
        let source = path.map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
        shown.push(serde_json::json!({
            "name": recipe.name, "description": recipe.description, "state": state, "source": source, "error": error,
        }));
        rows.push(vec![recipe.name.to_string(), state.replace('_', " "), source, recipe.description.clone()]);
    }
    // Begun from a file that is not there any more: its state is not to be lost sight of.
    for entry in entries.iter().filter(|entry| recipes.get(&entry.name).is_none()) {
        let (name, state) = (&entry.name, entry.state.as_str());
        shown.push(serde_json::json!({
            "name": name, "description": null, "state": state, "source": RECIPE_MISSING, "error": entry.error,
        }));
        rows.push(vec![name.clone(), state.replace('_', " "), RECIPE_MISSING.to_owned(), String::new()]);
    }
    if json {
        output::json(&serde_json::json!({ "recipes": shown }));
    } else {
        output::text(output::table(&["recipe", "state", "from", "description"], rows));
    }
    Ok(Exit::Done)
}
